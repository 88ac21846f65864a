/* SPDX-License-Identifier: Apache-2.0 */
#include "common/channel/channel_internal.h"

#include "common/base/be.h"

int frame_parse(bxc_slice in, size_t max_bytes, frame *ret, size_t *ret_used, bxc_err **err)
{
	if (in.n < FRAME_HEADER)
		return 0;
	uint32_t length = (uint32_t)bxc_be_get(in.p, 4);
	uint8_t type = in.p[4];
	if (length > max_bytes)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "frame of %u bytes (at most %zu)", length, max_bytes);
	if (type < FRAME_HELLO || type > FRAME_BULK)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "unknown frame type %u", type);
	if (in.p[6] || in.p[7])
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "reserved bytes of a frame are not zero");
	if (in.n < FRAME_HEADER + length)
		return 0;
	ret->type = (frame_type)type;
	ret->flags = in.p[5];
	ret->stream = (uint32_t)bxc_be_get(in.p + 8, 4);
	ret->arg = (uint32_t)bxc_be_get(in.p + 12, 4);
	ret->payload = bxc_slice_of(in.p + FRAME_HEADER, length);
	*ret_used = FRAME_HEADER + length;
	return 1;
}

void frame_put(bxc_buf *out, frame_type type, uint8_t flags, uint32_t stream, uint32_t arg, bxc_slice payload)
{
	uint8_t head[FRAME_HEADER] = {0};
	bxc_check(payload.n <= FRAME_MAX);
	bxc_be_put(head, payload.n, 4);
	head[4] = (uint8_t)type;
	head[5] = flags;
	bxc_be_put(head + 8, stream, 4);
	bxc_be_put(head + 12, arg, 4);
	bxc_buf_add(out, head, sizeof(head));
	bxc_buf_add(out, payload.p, payload.n);
}
