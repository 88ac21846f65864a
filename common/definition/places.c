/* SPDX-License-Identifier: Apache-2.0 */
/* Where the vertex with a digest stands: open addressing by the digest's own bytes, which are as
 * good as random. */
#include <string.h>

#include "common/base/mem.h"
#include "common/definition/definition_internal.h"

#define FIRST_SLOTS 64u

/* Slots hold places + 1; 0: free. Never more than half of them are taken. */
struct def_places {
	size_t n_slots; /* a power of two */
	size_t n;
	uint32_t *slots;
};

void def_places_free(def_places *p)
{
	if (!p)
		return;
	free(p->slots);
	free(p);
}

static size_t first_slot(const def_places *p, const bxc_digest *d)
{
	uint64_t h;
	memcpy(&h, d->b, sizeof(h));
	return (size_t)h & (p->n_slots - 1);
}

static void put(def_places *p, const bxc_digest *d, uint32_t value)
{
	size_t i = first_slot(p, d);
	while (p->slots[i])
		i = (i + 1) & (p->n_slots - 1);
	p->slots[i] = value;
}

static void grow(const bxc_def *d, def_places *p)
{
	BXC_AUTOFREE uint32_t *old = p->slots;
	size_t n_old = p->n_slots;
	p->n_slots = n_old ? 2 * n_old : FIRST_SLOTS;
	p->slots = bxc_calloc(p->n_slots, sizeof(*p->slots));
	for (size_t i = 0; i < n_old; i++)
		if (old[i])
			put(p, &d->vertices.v[old[i] - 1]->digest, old[i]);
}

uint32_t def_place_of(bxc_def *d, const bxc_digest *digest)
{
	if (!d->by_digest_)
		d->by_digest_ = bxc_calloc(1, sizeof(*d->by_digest_));
	def_places *p = d->by_digest_;
	if (2 * p->n >= p->n_slots)
		grow(d, p);
	size_t i = first_slot(p, digest);
	for (; p->slots[i]; i = (i + 1) & (p->n_slots - 1))
		if (bxc_digest_eq(&d->vertices.v[p->slots[i] - 1]->digest, digest))
			return p->slots[i] - 1;
	p->slots[i] = (uint32_t)d->vertices.n + 1;
	p->n++;
	return (uint32_t)d->vertices.n;
}
