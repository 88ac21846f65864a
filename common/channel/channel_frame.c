/* SPDX-License-Identifier: Apache-2.0 */
#include "common/channel/channel_internal.h"

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

int frame_parse(bxc_slice in, frame *ret, size_t *ret_used, bxc_err **err)
{
	if (in.n < FRAME_HEADER)
		return 0;
	uint32_t length = get32(in.p);
	uint8_t type = in.p[4];
	if (length > FRAME_MAX)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "frame of %u bytes (at most %u)", length, FRAME_MAX);
	if (type < FRAME_HELLO || type > FRAME_BULK)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "unknown frame type %u", type);
	if (in.p[6] || in.p[7])
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "reserved bytes of a frame are not zero");
	if (in.n < FRAME_HEADER + length)
		return 0;
	ret->type = (frame_type)type;
	ret->flags = in.p[5];
	ret->stream = get32(in.p + 8);
	ret->arg = get32(in.p + 12);
	ret->payload = bxc_slice_of(in.p + FRAME_HEADER, length);
	*ret_used = FRAME_HEADER + length;
	return 1;
}

void frame_put(bxc_buf *out, frame_type type, uint8_t flags, uint32_t stream, uint32_t arg, bxc_slice payload)
{
	uint8_t head[FRAME_HEADER] = {0};
	bxc_check(payload.n <= FRAME_MAX);
	put32(head, (uint32_t)payload.n);
	head[4] = (uint8_t)type;
	head[5] = flags;
	put32(head + 8, stream);
	put32(head + 12, arg);
	bxc_buf_add(out, head, sizeof(head));
	bxc_buf_add(out, payload.p, payload.n);
}
