/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/clock.h"
#include "worker/source/source_internal.h"

/* Less than this measures how long it takes to ask, not how fast bytes come. */
#define ENOUGH_BYTES (1u << 20)

void src_meter_begin(src_meter *m, int64_t now_ns)
{
	if (m->n_running++)
		return;
	m->since_ns = now_ns;
	m->bytes = 0;
}

bool src_meter_end(
	src_meter *m, int64_t now_ns, uint64_t bytes, uint64_t *ret_bytes, int64_t *ret_ns)
{
	m->n_running--;
	m->bytes += bytes;
	if (m->bytes < ENOUGH_BYTES)
		return false;
	*ret_bytes = m->bytes;
	*ret_ns = now_ns > m->since_ns ? now_ns - m->since_ns : 1;
	m->bytes = 0;
	m->since_ns = now_ns;
	return true;
}
