/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Printing. cJSON's printer writes 1e+15 for a size and keeps no canonical form, so the tree is
 * printed here; integers come out as integers. The "Go" forms give the bytes of encoding/json.
 */
#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/json_internal.h"

/* Our own trees: the bound only keeps the buffer's arithmetic sane. */
#define PRINT_MAX (SIZE_MAX / 4)

typedef struct printer {
	bxc_buf out;
	bool go_escapes; /* < > & U+2028 U+2029 as \u escapes */
	bool sorted;
	unsigned indent; /* blanks per level; 0: compact */
} printer;

/* Who stops a run of plain bytes: 1 always, 2 only where Go escapes. */
static const uint8_t stops[256] = {
	[0 ... 0x1f] = 1, ['"'] = 1, ['\\'] = 1, ['<'] = 2, ['>'] = 2, ['&'] = 2, [0xe2] = 2};

/* Puts the escape of the character at `s` and tells its length; 0: it needs none. */
static size_t put_escape(bxc_buf *out, const char *s, const char *end)
{
	static const char hex[] = "0123456789abcdef";
	uint8_t c = (uint8_t)*s;
	if (c == '"' || c == '\\') {
		bxc_buf_addc(out, '\\');
		bxc_buf_addc(out, (char)c);
		return 1;
	}
	if (c == 0xe2) {
		if (end - s < 3 || (uint8_t)s[1] != 0x80 || ((uint8_t)s[2] & 0xfe) != 0xa8)
			return 0;
		bxc_buf_adds(out, (uint8_t)s[2] == 0xa8 ? "\\u2028" : "\\u2029");
		return 3;
	}
	const char *at = c ? strchr("\bb\ff\nn\rr\tt", c) : NULL;
	const char esc[] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
	if (at && c < 0x20)
		bxc_buf_add(out, (const char[]){'\\', at[1]}, 2);
	else
		bxc_buf_add(out, esc, sizeof(esc));
	return 1;
}

/* The first byte that stops a run; `end` when none does. */
static const char *run_end(const char *s, const char *end, uint8_t mask)
{
	while (s < end && !(stops[(uint8_t)*s] & mask))
		s++;
	return s;
}

void json_put_string(bxc_buf *out, const char *s, size_t n, bool go_escapes)
{
	const char *end = s + n;
	uint8_t mask = go_escapes ? 3 : 1;
	bxc_check(bxc_buf_reserve(out, n + 2, NULL) == 0);
	const char *stop = run_end(s, end, mask);
	if (stop == end) {
		uint8_t *p = out->data + out->len;
		*p++ = '"';
		p = mempcpy(p, s, n);
		*p++ = '"';
		*p = 0;
		out->len += n + 2;
		return;
	}
	bxc_buf_addc(out, '"');
	for (;; stop = run_end(s, end, mask)) {
		bxc_buf_add(out, s, (size_t)(stop - s));
		if (stop == end)
			break;
		s = stop + put_escape(out, stop, end);
		if (s == stop)
			bxc_buf_addc(out, *s++);
	}
	bxc_buf_addc(out, '"');
}

static void print_string(printer *p, const char *s)
{
	json_put_string(&p->out, s, strlen(s), p->go_escapes);
}

static void print_number(printer *p, const cJSON *c)
{
	int64_t v;
	if (json_exact_i64(c, &v))
		bxc_buf_addf(&p->out, "%lld", (long long)v);
	else if (isfinite(c->valuedouble))
		bxc_buf_addf(&p->out, "%.17g", c->valuedouble);
	else
		bxc_buf_adds(&p->out, "null");
}

static void new_line(printer *p, unsigned level)
{
	if (!p->indent)
		return;
	bxc_buf_addc(&p->out, '\n');
	for (unsigned i = 0; i < level * p->indent; i++)
		bxc_buf_addc(&p->out, ' ');
}

static int cmp_members(const void *a, const void *b)
{
	const cJSON *const *x = a, *const *y = b;
	return strcmp((*x)->string, (*y)->string);
}

static void print_value(printer *p, const cJSON *c, unsigned level);

static void print_child(printer *p, const cJSON *child, bool is_object, bool first, unsigned level)
{
	if (!first)
		bxc_buf_addc(&p->out, ',');
	new_line(p, level + 1);
	if (is_object) {
		print_string(p, child->string);
		bxc_buf_adds(&p->out, p->indent ? ": " : ":");
	}
	print_value(p, child, level + 1);
}

static void print_container(printer *p, const cJSON *c, unsigned level)
{
	bool is_object = cJSON_IsObject(c);
	bxc_buf_addc(&p->out, is_object ? '{' : '[');
	if (is_object && p->sorted && c->child) {
		size_t n = bxc_json_len(json_cpub(c)), i = 0;
		BXC_AUTOFREE const cJSON **members = bxc_reallocarray(NULL, n, sizeof(*members));
		for (const cJSON *m = c->child; m; m = m->next)
			members[i++] = m;
		qsort(members, n, sizeof(*members), cmp_members);
		for (i = 0; i < n; i++)
			print_child(p, members[i], true, i == 0, level);
	} else {
		for (const cJSON *m = c->child; m; m = m->next)
			print_child(p, m, is_object, m == c->child, level);
	}
	if (c->child)
		new_line(p, level);
	bxc_buf_addc(&p->out, is_object ? '}' : ']');
}

static void print_value(printer *p, const cJSON *c, unsigned level)
{
	if (cJSON_IsObject(c) || cJSON_IsArray(c))
		print_container(p, c, level);
	else if (cJSON_IsString(c))
		print_string(p, c->valuestring);
	else if (cJSON_IsNumber(c))
		print_number(p, c);
	else if (cJSON_IsRaw(c))
		bxc_buf_adds(&p->out, c->valuestring);
	else if (cJSON_IsBool(c))
		bxc_buf_adds(&p->out, cJSON_IsTrue(c) ? "true" : "false");
	else
		bxc_buf_adds(&p->out, "null");
}

static char *print(const bxc_json *j, printer p)
{
	bxc_buf_init(&p.out, PRINT_MAX);
	print_value(&p, json_ro(j), 0);
	return bxc_buf_steal(&p.out);
}

char *bxc_json_print(const bxc_json *j)
{
	return print(j, (printer){.go_escapes = false});
}

char *bxc_json_print_go(const bxc_json *j)
{
	return print(j, (printer){.go_escapes = true});
}

char *bxc_json_print_pretty(const bxc_json *j)
{
	return print(j, (printer){.go_escapes = true, .indent = 2});
}

char *bxc_json_print_canonical(const bxc_json *j)
{
	return print(j, (printer){.sorted = true});
}
