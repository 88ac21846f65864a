/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's table of mounts: proc(5), /proc/<pid>/mountinfo. */
#include "common/os/mnt.h"

#include <fcntl.h>
#include <string.h>

#include "common/base/arr.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fs.h"

#define TABLE_MAX_BYTES	  (16u << 20)
#define TABLE_MAX_ENTRIES 200000u /* sysctl fs.mount-max is 100000 */

void bxc_mnt_table_done(bxc_mnt_table *t)
{
	for (size_t i = 0; i < t->n; i++) {
		bxc_mnt_entry *e = &t->v[i];
		free(e->root);
		free(e->mount_point);
		free(e->options);
		free(e->fs_type);
		free(e->source);
		free(e->super_options);
	}
	free(t->v);
	*t = (bxc_mnt_table){0};
}

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* Blank, tab, newline and backslash are written as \ooo. */
static char *unescape(const char *p, size_t n)
{
	char *s = bxc_malloc(n + 1);
	size_t out = 0;
	for (size_t i = 0; i < n; i++) {
		int c = 0;
		if (p[i] == '\\' && n - i > 3 && is_octal(p[i + 1]) && is_octal(p[i + 2]) &&
			is_octal(p[i + 3]))
			c = (p[i + 1] - '0') << 6 | (p[i + 2] - '0') << 3 | (p[i + 3] - '0');
		bool escaped = c > 0 && c <= 0xff;
		s[out++] = escaped ? (char)c : p[i];
		i += escaped ? 3 : 0;
	}
	s[out] = '\0';
	return s;
}

/* The next blank-separated field of [*p, end); false at the end. */
static bool next_field(const char **p, const char *end, bxc_slice *ret)
{
	while (*p < end && **p == ' ')
		(*p)++;
	const char *start = *p;
	while (*p < end && **p != ' ')
		(*p)++;
	*ret = bxc_slice_of(start, (size_t)(*p - start));
	return *p > start;
}

static int number(bxc_slice s, uint64_t max, uint64_t *ret, bxc_err **err)
{
	BXC_AUTOFREE char *text = bxc_strndup((const char *)s.p, s.n);
	return bxc_str_to_u64(text, 0, max, ret, err);
}

static int parse_device(bxc_slice s, bxc_mnt_entry *e, bxc_err **err)
{
	const uint8_t *colon = memchr(s.p, ':', s.n);
	if (!colon)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "no device number");
	size_t n = (size_t)(colon - s.p);
	uint64_t major = 0, minor = 0;
	int r = number(bxc_slice_of(s.p, n), UINT32_MAX, &major, err);
	if (r >= 0)
		r = number(bxc_slice_of(colon + 1, s.n - n - 1), UINT32_MAX, &minor, err);
	if (r < 0)
		return r;
	e->dev_major = (unsigned)major;
	e->dev_minor = (unsigned)minor;
	return 0;
}

/* "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue" */
static int parse_line(const char *p, const char *end, bxc_mnt_entry *e, bxc_err **err)
{
	bxc_slice f[6], rest[3], tag;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(f); i++)
		if (!next_field(&p, end, &f[i]))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "too few fields");
	do {
		if (!next_field(&p, end, &tag))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "no separator");
	} while (tag.n != 1 || tag.p[0] != '-');
	for (size_t i = 0; i < BXC_ARRAY_SIZE(rest); i++) {
		/* An empty source is written as nothing between two blanks by old kernels. */
		if (!next_field(&p, end, &rest[i]) && i == 0)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "no file system type");
	}
	int r = number(f[0], UINT64_MAX, &e->id, err);
	if (r >= 0)
		r = number(f[1], UINT64_MAX, &e->parent_id, err);
	if (r >= 0)
		r = parse_device(f[2], e, err);
	if (r < 0)
		return r;
	e->root = unescape((const char *)f[3].p, f[3].n);
	e->mount_point = unescape((const char *)f[4].p, f[4].n);
	e->options = unescape((const char *)f[5].p, f[5].n);
	e->fs_type = unescape((const char *)rest[0].p, rest[0].n);
	e->source = unescape((const char *)rest[1].p, rest[1].n);
	e->super_options = unescape((const char *)rest[2].p, rest[2].n);
	return 0;
}

int bxc_mnt_parse_table(bxc_slice text, bxc_mnt_table *ret, bxc_err **err)
{
	BXC_ARR(bxc_mnt_entry) all = {0};
	const char *p = (const char *)text.p;
	const char *end = text.n ? p + text.n : p;
	int r = 0;
	if (text.n && memchr(text.p, '\0', text.n))
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "table of mounts: not text");
	while (p < end && r >= 0) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		const char *line_end = nl ? nl : end;
		if (all.n >= TABLE_MAX_ENTRIES)
			r = bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "more than %u mounts",
				TABLE_MAX_ENTRIES);
		else if (line_end > p)
			r = parse_line(p, line_end, bxc_arr_push(&all), err);
		if (r < 0)
			r = bxc_err_wrap(err, r, "table of mounts, line %zu", all.n);
		p = nl ? nl + 1 : end;
	}
	bxc_mnt_table table = {all.v, all.n};
	if (r < 0) {
		bxc_mnt_table_done(&table);
		return r;
	}
	*ret = table;
	return 0;
}

int bxc_mnt_read_table(bxc_mnt_table *ret, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(TABLE_MAX_BYTES);
	int r = bxc_fs_read_file(AT_FDCWD, "/proc/self/mountinfo", TABLE_MAX_BYTES, &text, err);
	return r < 0 ? r : bxc_mnt_parse_table(bxc_buf_slice(&text), ret, err);
}
