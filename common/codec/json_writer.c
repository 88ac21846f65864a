/* SPDX-License-Identifier: Apache-2.0 */
#include "common/codec/json_writer.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/codec/json_internal.h"

/* Our own content: the bound only keeps the buffer's arithmetic sane. */
#define TEXT_MAX   (SIZE_MAX / 4)
#define NUMBER_MAX 24u

void bxc_json_writer_init(bxc_json_writer *w)
{
	*w = (bxc_json_writer){.out = BXC_BUF_INIT(TEXT_MAX)};
}

void bxc_json_writer_done(bxc_json_writer *w)
{
	bxc_buf_done(&w->out);
}

bxc_slice bxc_json_writer_text(const bxc_json_writer *w)
{
	bxc_check(w->depth == 0);
	return bxc_buf_slice(&w->out);
}

/* What stands before a value: a comma, the key. */
static void lead_in(bxc_json_writer *w, const char *key)
{
	bool is_member = w->depth && !w->level[w->depth - 1].is_array;
	bxc_check(is_member == (key != NULL));
	if (!w->depth)
		return;
	size_t n = key ? strlen(key) : 0;
	bxc_check(bxc_buf_reserve(&w->out, n + 4, NULL) == 0);
	uint8_t *p = w->out.data + w->out.len;
	if (w->level[w->depth - 1].has_any)
		*p++ = ',';
	w->level[w->depth - 1].has_any = true;
	if (key) {
		const char *last = w->level[w->depth - 1].key;
		bxc_check(!last || strcmp(last, key) < 0);
		w->level[w->depth - 1].key = key;
		*p++ = '"';
		p = mempcpy(p, key, n);
		*p++ = '"';
		*p++ = ':';
	}
	w->out.len = (size_t)(p - w->out.data);
	*p = 0;
}

static void begin(bxc_json_writer *w, const char *key, bool is_array)
{
	lead_in(w, key);
	bxc_check(w->depth < BXC_JSON_WRITER_DEPTH);
	w->level[w->depth].is_array = is_array;
	w->level[w->depth].has_any = false;
	w->level[w->depth].key = NULL;
	w->depth++;
	bxc_buf_addc(&w->out, is_array ? '[' : '{');
}

void bxc_json_writer_begin_object(bxc_json_writer *w, const char *key)
{
	begin(w, key, false);
}

void bxc_json_writer_begin_array(bxc_json_writer *w, const char *key)
{
	begin(w, key, true);
}

void bxc_json_writer_end(bxc_json_writer *w)
{
	bxc_check(w->depth);
	w->depth--;
	bxc_buf_addc(&w->out, w->level[w->depth].is_array ? ']' : '}');
}

void bxc_json_writer_str(bxc_json_writer *w, const char *key, const char *value)
{
	lead_in(w, key);
	size_t n = strlen(value);
	BXC_AUTOFREE char *fixed = json_repaired(value, n);
	json_put_string(&w->out, fixed ? fixed : value, fixed ? strlen(fixed) : n, false);
}

void bxc_json_writer_raw(bxc_json_writer *w, const char *key, bxc_slice text)
{
	lead_in(w, key);
	bxc_buf_add(&w->out, text.p, text.n);
}

void bxc_json_writer_bool(bxc_json_writer *w, const char *key, bool value)
{
	lead_in(w, key);
	bxc_buf_adds(&w->out, value ? "true" : "false");
}

void bxc_json_writer_u64(bxc_json_writer *w, const char *key, uint64_t value)
{
	char text[NUMBER_MAX], *p = text + sizeof(text);
	uint64_t rest = value;
	do
		*--p = (char)('0' + rest % 10);
	while (rest /= 10);
	lead_in(w, key);
	bool exact = value <= (uint64_t)JSON_EXACT_MAX;
	if (!exact)
		bxc_buf_addc(&w->out, '"');
	bxc_buf_add(&w->out, p, (size_t)(text + sizeof(text) - p));
	if (!exact)
		bxc_buf_addc(&w->out, '"');
}

void bxc_json_writer_i64(bxc_json_writer *w, const char *key, int64_t value)
{
	if (value >= 0) {
		bxc_json_writer_u64(w, key, (uint64_t)value);
		return;
	}
	lead_in(w, key);
	bxc_buf_addf(&w->out, value < -JSON_EXACT_MAX ? "\"%lld\"" : "%lld", (long long)value);
}
