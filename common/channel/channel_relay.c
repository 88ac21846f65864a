/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two streams of different sessions become one. Each direction has a thread of its own that blocks
 * for data and for credit: what one side does not take is not asked of the other. Relays are as many
 * as streams, which are bounded for each session.
 */
#include "common/channel/channel_internal.h"

#include "common/base/mem.h"

struct relay {
	_Atomic uint32_t refs;
	bxc_chan_stream *a, *b;
};

struct half {
	struct relay *r;
	bxc_chan_stream *from, *to;
};

static void *pump(void *ud)
{
	struct half *h = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(FRAME_MAX);
	for (;;) {
		ssize_t n = bxc_chan_stream_read(h->from, chunk, FRAME_MAX, NULL, &err);
		if (n < 0) {
			bxc_chan_stream_reset(h->to, bxc_err_code(err), bxc_err_text(err));
			break;
		}
		int r = n ? bxc_chan_stream_write(h->to, chunk, (size_t)n, NULL, &err) : bxc_chan_stream_write_eof(h->to, &err);
		if (r < 0) {
			bxc_chan_stream_reset(h->from, bxc_err_code(err), bxc_err_text(err));
			break;
		}
		if (n == 0)
			break;
	}
	/* What passes may be a secret. */
	explicit_bzero(chunk, FRAME_MAX);
	struct relay *r = h->r;
	free(h);
	if (atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) == 1) {
		bxc_chan_stream_free(r->a);
		bxc_chan_stream_free(r->b);
		free(r);
	}
	return NULL;
}

static void start_half(struct relay *r, bxc_chan_stream *from, bxc_chan_stream *to)
{
	struct half *h = bxc_calloc(1, sizeof(*h));
	pthread_t t;
	pthread_attr_t attr;
	*h = (struct half){r, from, to};
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 256u << 10);
	if (pthread_create(&t, &attr, pump, h) != 0) {
		bxc_chan_stream_reset(from, BXC_RESOURCE_EXHAUSTED, "no thread for the relay");
		bxc_chan_stream_reset(to, BXC_RESOURCE_EXHAUSTED, "no thread for the relay");
		pump(h);
	}
	pthread_attr_destroy(&attr);
}

void bxc_chan_relay(bxc_chan_stream *a_take, bxc_chan_stream *b_take)
{
	struct relay *r = bxc_calloc(1, sizeof(*r));
	r->refs = 2;
	r->a = a_take;
	r->b = b_take;
	start_half(r, a_take, b_take);
	start_half(r, b_take, a_take);
}
