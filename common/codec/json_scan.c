/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A validating pass over JSON text (RFC 8259). cJSON accepts more than the grammar (leading
 * zeroes, raw control characters, invalid UTF-8, 1000 levels) and cuts strings at \u0000, so
 * everything is settled here and cJSON only builds the tree. Iterative: depth costs no stack.
 */
#include <string.h>

#include "common/base/limits.h"
#include "common/base/str.h"
#include "common/base/utf8.h"
#include "common/codec/json_internal.h"

typedef struct scan {
	const uint8_t *start;
	const uint8_t *p;
	const uint8_t *end;
	size_t n_values;
	unsigned depth;
	uint8_t open[BXC_LIMIT_JSON_DEPTH]; /* '{' or '[' of each level */
} scan;

static int bad(const scan *s, const char *what, bxc_err **err)
{
	size_t line = 1, column = 1;
	for (const uint8_t *p = s->start; p < s->p; p++) {
		column++;
		if (*p == '\n') {
			line++;
			column = 1;
		}
	}
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid JSON at line %zu, column %zu: %s",
		line, column, what);
}

static void skip_blanks(scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
		s->p++;
}

static bool at(const scan *s, char c)
{
	return s->p < s->end && *s->p == (uint8_t)c;
}

static int hex4(const uint8_t *p, const uint8_t *end, uint32_t *ret)
{
	uint32_t v = 0;
	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		int digit = bxc_str_hex_value((char)p[i]);
		if (digit < 0)
			return -1;
		v = v << 4 | (uint32_t)digit;
	}
	*ret = v;
	return 0;
}

/* After "\u". */
static int scan_unicode_escape(scan *s, bxc_err **err)
{
	uint32_t hi, lo;
	if (hex4(s->p, s->end, &hi) < 0)
		return bad(s, "\\u needs four hexadecimal digits", err);
	if (hi == 0)
		return bad(s, "NUL in a string", err);
	if (hi >= 0xdc00 && hi <= 0xdfff)
		return bad(s, "unpaired surrogate in a string", err);
	if (hi >= 0xd800 && hi <= 0xdbff) {
		const uint8_t *q = s->p + 4;
		if (s->end - q < 6 || q[0] != '\\' || q[1] != 'u' || hex4(q + 2, s->end, &lo) < 0 ||
			lo < 0xdc00 || lo > 0xdfff)
			return bad(s, "unpaired surrogate in a string", err);
		s->p += 6;
	}
	s->p += 4;
	return 0;
}

static int scan_string(scan *s, bxc_err **err)
{
	s->p++;
	for (;;) {
		if (s->p == s->end)
			return bad(s, "unterminated string", err);
		uint8_t c = *s->p;
		if (c == '"') {
			s->p++;
			return 0;
		}
		if (c < 0x20)
			return bad(s, "control character in a string", err);
		if (c >= 0x80) {
			uint32_t rune;
			size_t n = bxc_utf8_next(s->p, (size_t)(s->end - s->p), &rune);
			if (n == 0)
				return bad(s, "invalid UTF-8 in a string", err);
			s->p += n;
			continue;
		}
		s->p++;
		if (c != '\\')
			continue;
		if (s->p == s->end)
			return bad(s, "unterminated string", err);
		c = *s->p++;
		if (c == 'u') {
			int r = scan_unicode_escape(s, err);
			if (r < 0)
				return r;
		} else if (c == '\0' || !strchr("\"\\/bfnrt", c)) {
			return bad(s, "unknown escape in a string", err);
		}
	}
}

static bool digits(scan *s)
{
	const uint8_t *p = s->p;
	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	return s->p > p;
}

static int scan_number(scan *s, bxc_err **err)
{
	const uint8_t *first = s->p;
	if (at(s, '-'))
		s->p++;
	if (at(s, '0')) {
		s->p++;
		if (s->p < s->end && *s->p >= '0' && *s->p <= '9')
			return bad(s, "number with a leading zero", err);
	} else if (!digits(s)) {
		return bad(s, "expected a value", err);
	}
	if (at(s, '.')) {
		s->p++;
		if (!digits(s))
			return bad(s, "number without digits after the point", err);
	}
	if (at(s, 'e') || at(s, 'E')) {
		s->p++;
		if (at(s, '+') || at(s, '-'))
			s->p++;
		if (!digits(s))
			return bad(s, "number without an exponent", err);
	}
	/* cJSON copies a number into 64 bytes and would go on in the middle of a longer one. */
	if (s->p - first > 60)
		return bad(s, "number of more than 60 characters", err);
	return 0;
}

static int scan_word(scan *s, const char *word, bxc_err **err)
{
	size_t n = strlen(word);
	if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
		return bad(s, "expected a value", err);
	s->p += n;
	return 0;
}

static int scan_key(scan *s, bxc_err **err)
{
	skip_blanks(s);
	if (!at(s, '"'))
		return bad(s, "expected a key", err);
	int r = scan_string(s, err);
	if (r < 0)
		return r;
	skip_blanks(s);
	if (!at(s, ':'))
		return bad(s, "expected ':'", err);
	s->p++;
	return 0;
}

/* 1: a container was opened and has a first element, 0: a value is complete. */
static int scan_value(scan *s, bxc_err **err)
{
	skip_blanks(s);
	if (s->p == s->end)
		return bad(s, "unexpected end", err);
	if (++s->n_values > BXC_LIMIT_JSON_VALUES)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "JSON of more than %u values",
			BXC_LIMIT_JSON_VALUES);
	uint8_t c = *s->p;
	switch (c) {
	case '"':
		return scan_string(s, err);
	case 't':
		return scan_word(s, "true", err);
	case 'f':
		return scan_word(s, "false", err);
	case 'n':
		return scan_word(s, "null", err);
	case '{':
	case '[':
		break;
	default:
		return scan_number(s, err);
	}
	if (s->depth == BXC_LIMIT_JSON_DEPTH)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "JSON nested deeper than %d levels",
			BXC_LIMIT_JSON_DEPTH);
	s->p++;
	skip_blanks(s);
	if (at(s, c == '{' ? '}' : ']')) {
		s->p++;
		return 0;
	}
	s->open[s->depth++] = c;
	if (c == '{') {
		int r = scan_key(s, err);
		if (r < 0)
			return r;
	}
	return 1;
}

/* After a complete value: 1 when another one must follow, 0 when the document is complete. */
static int scan_after_value(scan *s, bxc_err **err)
{
	while (s->depth) {
		uint8_t open = s->open[s->depth - 1];
		skip_blanks(s);
		if (at(s, open == '{' ? '}' : ']')) {
			s->p++;
			s->depth--;
			continue;
		}
		if (!at(s, ','))
			return bad(s, open == '{' ? "expected ',' or '}'" : "expected ',' or ']'",
				err);
		s->p++;
		if (open == '{') {
			int r = scan_key(s, err);
			if (r < 0)
				return r;
		}
		return 1;
	}
	return 0;
}

int json_scan(bxc_slice text, bxc_err **err)
{
	if (text.n > BXC_LIMIT_JSON)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "JSON of %zu bytes, more than %u",
			text.n, BXC_LIMIT_JSON);
	scan s = {.start = text.p, .p = text.p, .end = text.n ? text.p + text.n : text.p};
	int more = 1;
	while (more) {
		int r = scan_value(&s, err);
		if (r < 0)
			return r;
		more = r ? 1 : scan_after_value(&s, err);
		if (more < 0)
			return more;
	}
	skip_blanks(&s);
	if (s.p != s.end)
		return bad(&s, "bytes after the document", err);
	return 0;
}
