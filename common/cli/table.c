/* SPDX-License-Identifier: Apache-2.0 */
#include "common/cli/table.h"

#include <string.h>

#include "common/base/arr.h"
#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/base/utf8.h"

struct bxc_table {
	const char *const *headers;
	size_t n_columns;
	BXC_ARR(char *) cells; /* row after row */
};

bxc_table *bxc_table_new(const char *const *headers)
{
	bxc_table *t = bxc_calloc(1, sizeof(*t));
	t->headers = headers;
	while (headers[t->n_columns])
		t->n_columns++;
	bxc_check(t->n_columns > 0);
	return t;
}

void bxc_table_free(bxc_table *t)
{
	if (!t)
		return;
	BXC_ARR_FOREACH (c, &t->cells)
		free(*c);
	bxc_arr_done(&t->cells);
	free(t);
}

/* Cells hold names that others chose: what could move the cursor of a terminal is replaced. */
static char *harmless(const char *s)
{
	char *copy = bxc_strdup(s);
	size_t n = strlen(copy);
	for (size_t i = 0; i < n;) {
		uint32_t rune = 0;
		size_t len = bxc_utf8_next((const uint8_t *)copy + i, n - i, &rune);
		if (len == 0 || rune < 0x20 || (rune >= 0x7f && rune < 0xa0)) {
			/* C1 controls take two bytes; one '?' each keeps the length. */
			memset(copy + i, '?', len ? len : 1);
		}
		i += len ? len : 1;
	}
	return copy;
}

void bxc_table_add_row(bxc_table *t, const char *const *cells)
{
	for (size_t i = 0; i < t->n_columns; i++)
		*bxc_arr_push(&t->cells) = harmless(cells[i] ? cells[i] : "-");
}

static size_t width(const char *s)
{
	size_t n = 0;
	for (; *s; s++)
		n += ((uint8_t)*s & 0xc0) != 0x80;
	return n;
}

static const char *header(const bxc_table *t, size_t column)
{
	const char *h = t->headers[column];
	return *h == '>' ? h + 1 : h;
}

static void print_row(const bxc_table *t, char *const *cells, const size_t *widths, FILE *f)
{
	size_t blanks = 0; /* owed: written only when something follows */
	for (size_t i = 0; i < t->n_columns; i++) {
		const char *text = cells ? cells[i] : header(t, i);
		size_t pad = widths[i] - width(text);
		bool right = *t->headers[i] == '>';
		if (right)
			blanks += pad;
		if (*text) {
			fprintf(f, "%*s%s", (int)blanks, "", text);
			blanks = 0;
		}
		blanks += (right ? 0 : pad) + 3;
	}
	fputc('\n', f);
}

void bxc_table_print(const bxc_table *t, FILE *f)
{
	BXC_AUTOFREE size_t *widths = bxc_calloc(t->n_columns, sizeof(*widths));
	for (size_t i = 0; i < t->n_columns; i++)
		widths[i] = width(header(t, i));
	for (size_t i = 0; i < t->cells.n; i++)
		widths[i % t->n_columns] = BXC_MAX(widths[i % t->n_columns], width(t->cells.v[i]));
	print_row(t, NULL, widths, f);
	for (size_t i = 0; i < t->cells.n; i += t->n_columns)
		print_row(t, t->cells.v + i, widths, f);
}

char *bxc_table_size(uint64_t bytes)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
	if (bytes < 1000)
		return bxc_str_fmt("%u B", (unsigned)bytes);
	size_t unit = 0;
	uint64_t divisor = 1;
	while (bytes / divisor >= 1000) {
		divisor *= 1000;
		unit++;
	}
	uint64_t whole = bytes / divisor;
	if (whole >= 10)
		return bxc_str_fmt("%u %s", (unsigned)whole, units[unit]);
	return bxc_str_fmt(
		"%u.%u %s", (unsigned)whole, (unsigned)(bytes / (divisor / 10) % 10), units[unit]);
}

char *bxc_table_age(int64_t age_ns)
{
	int64_t s = age_ns > 0 ? age_ns / BXC_NS_PER_S : 0;
	if (s < 60)
		return bxc_str_fmt("%ds", (int)s);
	if (s < 3600)
		return bxc_str_fmt("%dm", (int)(s / 60));
	if (s < 2L * 86400)
		return bxc_str_fmt("%dh", (int)(s / 3600));
	return bxc_str_fmt("%lldd", (long long)(s / 86400));
}
