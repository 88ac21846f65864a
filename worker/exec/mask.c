/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hides values of secrets in what a step prints. An Aho-Corasick automaton of all values reads each
 * stream once, whatever their number; only bytes that may yet turn out to be the begin of a value
 * are held back.
 */
#include "worker/exec/exec_internal.h"

#include <string.h>

#include "common/base/mem.h"

#define MIN_VALUE 4u /* shorter ones are in everything a step says */
#define MIN_LINE  8u
#define MAX_BYTES (4u << 20)
#define MASK	  "****"

typedef struct node {
	uint32_t child, sibling, fail; /* 0: none, the root */
	uint32_t depth;
	uint32_t hit; /* length of the longest value that ends here */
	uint8_t byte;
} node;

struct bxc_exec__masks {
	node *nodes; /* [0] is the root */
	uint32_t n, cap;
	uint32_t longest;
};

typedef struct span {
	uint64_t from, to; /* offsets in the stream */
} span;

struct bxc_exec__mask {
	const bxc_exec__masks *masks;
	uint32_t at;
	uint64_t pos, emitted;
	bxc_buf held; /* emitted..pos */
	BXC_ARR(span) spans;
	bool in_mask; /* the last byte that was emitted was hidden */
};

static uint32_t child_of(const bxc_exec__masks *m, uint32_t at, uint8_t byte)
{
	uint32_t c = m->nodes[at].child;
	while (c && m->nodes[c].byte != byte)
		c = m->nodes[c].sibling;
	return c;
}

static void add(bxc_exec__masks *m, bxc_slice value)
{
	uint32_t at = 0;
	for (size_t i = 0; i < value.n; i++) {
		uint32_t next = child_of(m, at, value.p[i]);
		if (!next) {
			bxc_check(m->n < m->cap);
			next = m->n++;
			m->nodes[next] = (node){.byte = value.p[i],
				.sibling = m->nodes[at].child,
				.depth = m->nodes[at].depth + 1};
			m->nodes[at].child = next;
		}
		at = next;
	}
	m->nodes[at].hit = m->nodes[at].depth;
	m->longest = BXC_MAX(m->longest, m->nodes[at].depth);
}

static uint32_t follow(const bxc_exec__masks *m, uint32_t at, uint8_t byte)
{
	for (;;) {
		uint32_t next = child_of(m, at, byte);
		if (next || !at)
			return next;
		at = m->nodes[at].fail;
	}
}

static void link_failures(bxc_exec__masks *m)
{
	BXC_AUTOFREE uint32_t *queue = bxc_calloc(m->n, sizeof(*queue));
	size_t head = 0, tail = 1;
	while (head < tail) {
		uint32_t at = queue[head++];
		for (uint32_t c = m->nodes[at].child; c; c = m->nodes[c].sibling) {
			node *n = &m->nodes[c];
			n->fail = at ? follow(m, m->nodes[at].fail, n->byte) : 0;
			if (!n->hit)
				n->hit = m->nodes[n->fail].hit;
			queue[tail++] = c;
		}
	}
}

static bxc_slice trimmed(bxc_slice s, const char *what)
{
	while (s.n && memchr(what, s.p[0], strlen(what)))
		s = bxc_slice_of(s.p + 1, s.n - 1);
	while (s.n && memchr(what, s.p[s.n - 1], strlen(what)))
		s.n--;
	return s;
}

/* Of a value with several lines each counts: it may be printed with another indent. */
static void for_each_part(bxc_slice value, void (*fn)(bxc_slice part, void *ud), void *ud)
{
	value = trimmed(value, "\r\n");
	if (!value.n)
		return;
	if (!memchr(value.p, '\n', value.n)) {
		if (value.n >= MIN_VALUE)
			fn(value, ud);
		return;
	}
	while (value.n) {
		const uint8_t *nl = memchr(value.p, '\n', value.n);
		size_t n = nl ? (size_t)(nl - value.p) : value.n;
		bxc_slice line = trimmed(bxc_slice_of(value.p, n), " \t\r");
		if (line.n >= MIN_LINE)
			fn(line, ud);
		n += nl ? 1 : 0;
		value = bxc_slice_of(value.p + n, value.n - n);
	}
}

static void count_part(bxc_slice part, void *ud)
{
	*(size_t *)ud += part.n;
}

static void add_part(bxc_slice part, void *ud)
{
	add(ud, part);
}

int bxc_exec__masks_new(
	const bxc_secret *const *values, size_t n, bxc_exec__masks **ret, bxc_err **err)
{
	size_t bytes = 0;
	for (size_t i = 0; i < n; i++)
		for_each_part(bxc_secret_bytes(values[i]), count_part, &bytes);
	if (bytes > MAX_BYTES)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"the secrets of one step have more than %u bytes together", MAX_BYTES);
	bxc_exec__masks *m = bxc_calloc(1, sizeof(*m));
	m->cap = (uint32_t)bytes + 1;
	m->n = 1;
	m->nodes = bxc_calloc(m->cap, sizeof(*m->nodes));
	for (size_t i = 0; i < n; i++)
		for_each_part(bxc_secret_bytes(values[i]), add_part, m);
	link_failures(m);
	*ret = m;
	return 0;
}

void bxc_exec__masks_free(bxc_exec__masks *m)
{
	if (!m)
		return;
	explicit_bzero(m->nodes, m->cap * sizeof(*m->nodes));
	free(m->nodes);
	free(m);
}

/* ---- a stream ---- */

bxc_exec__mask *bxc_exec__mask_new(const bxc_exec__masks *masks)
{
	bxc_exec__mask *m = bxc_calloc(1, sizeof(*m));
	m->masks = masks;
	/* At once: growing would leave copies behind that nobody wipes. */
	size_t bytes = (size_t)masks->longest + BXC_EXEC__CHUNK;
	bxc_buf_init(&m->held, bytes);
	bxc_check(bxc_buf_reserve(&m->held, bytes, NULL) == 0);
	return m;
}

void bxc_exec__mask_free(bxc_exec__mask *m)
{
	if (!m)
		return;
	if (m->held.data)
		explicit_bzero(m->held.data, m->held.cap);
	bxc_buf_done(&m->held);
	bxc_arr_done(&m->spans);
	free(m);
}

static void hide(bxc_exec__mask *m, uint64_t from, uint64_t to)
{
	while (m->spans.n && m->spans.v[m->spans.n - 1].to >= from) {
		from = BXC_MIN(from, m->spans.v[m->spans.n - 1].from);
		m->spans.n--;
	}
	*bxc_arr_push(&m->spans) = (span){from, to};
}

/* What lies before `until` is decided. */
static void emit(
	bxc_exec__mask *m, uint64_t until, void (*fn)(const void *p, size_t n, void *ud), void *ud)
{
	const uint8_t *base = m->held.data;
	uint64_t start = m->emitted;
	size_t done = 0;
	BXC_ARR_FOREACH (s, &m->spans) {
		if (s->from >= until)
			break;
		if (s->from > m->emitted) {
			fn(base + (m->emitted - start), (size_t)(s->from - m->emitted), ud);
			m->in_mask = false;
		}
		if (!m->in_mask)
			fn(MASK, strlen(MASK), ud);
		m->in_mask = true;
		m->emitted = BXC_MIN(s->to, until);
		if (s->to > until)
			break;
		done++;
	}
	m->spans.n -= done;
	if (done && m->spans.n)
		memmove(m->spans.v, m->spans.v + done, m->spans.n * sizeof(*m->spans.v));
	if (m->emitted < until) {
		fn(base + (m->emitted - start), (size_t)(until - m->emitted), ud);
		m->in_mask = false;
		m->emitted = until;
	}
	bxc_buf_drop_front(&m->held, (size_t)(m->emitted - start));
}

void bxc_exec__mask_feed(bxc_exec__mask *m, const void *p, size_t n,
	void (*fn)(const void *p, size_t n, void *ud), void *ud)
{
	const uint8_t *b = p;
	bxc_check(n <= BXC_EXEC__CHUNK);
	bxc_buf_add(&m->held, p, n);
	for (size_t i = 0; i < n; i++) {
		m->at = follow(m->masks, m->at, b[i]);
		m->pos++;
		uint32_t hit = m->masks->nodes[m->at].hit;
		if (hit)
			hide(m, m->pos - hit, m->pos);
	}
	emit(m, m->pos - m->masks->nodes[m->at].depth, fn, ud);
}

void bxc_exec__mask_end(bxc_exec__mask *m, void (*fn)(const void *p, size_t n, void *ud), void *ud)
{
	emit(m, m->pos, fn, ud);
	m->at = 0;
}
