/* SPDX-License-Identifier: Apache-2.0 */
#include "common/os/passwd.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

#define MAX_FIELDS 7

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* The next line without blanks at its ends; false at the end of the text. */
static bool next_line(bxc_slice *text, bxc_slice *ret)
{
	if (text->n == 0)
		return false;
	const uint8_t *end = memchr(text->p, '\n', text->n);
	size_t n = end ? (size_t)(end - text->p) : text->n;
	bxc_slice line = {text->p, n};
	size_t used = end ? n + 1 : n;
	text->p += used;
	text->n -= used;
	while (line.n && is_blank(line.p[0])) {
		line.p++;
		line.n--;
	}
	while (line.n && is_blank(line.p[line.n - 1]))
		line.n--;
	*ret = line;
	return true;
}

/* The fields of a line cut at colons; how many there are, at most MAX_FIELDS. */
static size_t split(bxc_slice line, bxc_slice fields[MAX_FIELDS])
{
	size_t n = 0;
	while (n < MAX_FIELDS) {
		const uint8_t *end = line.n ? memchr(line.p, ':', line.n) : NULL;
		fields[n++] = (bxc_slice){line.p, end ? (size_t)(end - line.p) : line.n};
		if (!end)
			break;
		line.n -= (size_t)(end - line.p) + 1;
		line.p = end + 1;
	}
	return n;
}

static bool to_id(bxc_slice field, uint32_t *ret)
{
	char text[16];
	uint64_t v = 0;
	if (field.n == 0 || field.n >= sizeof(text))
		return false;
	memcpy(text, field.p, field.n);
	text[field.n] = '\0';
	if (bxc_str_to_u64(text, 0, UINT32_MAX, &v, NULL) < 0)
		return false;
	*ret = (uint32_t)v;
	return true;
}

static bool is_text(bxc_slice field, const char *s)
{
	return field.n == strlen(s) && memcmp(field.p, s, field.n) == 0;
}

bool bxc_passwd_find_user(bxc_slice passwd, const char *name, uint32_t uid, uint32_t *ret_uid,
	uint32_t *ret_gid, char **ret_name)
{
	bxc_slice line, f[MAX_FIELDS];
	while (next_line(&passwd, &line)) {
		uint32_t u = 0, g = 0;
		if (split(line, f) < 4 || f[0].n == 0 || !to_id(f[2], &u) || !to_id(f[3], &g))
			continue;
		if (name ? !is_text(f[0], name) : u != uid)
			continue;
		*ret_uid = u;
		*ret_gid = g;
		if (ret_name)
			*ret_name = bxc_strndup((const char *)f[0].p, f[0].n);
		return true;
	}
	return false;
}

bool bxc_passwd_find_group(bxc_slice group, const char *name, uint32_t *ret_gid)
{
	bxc_slice line, f[MAX_FIELDS];
	while (next_line(&group, &line)) {
		uint32_t g = 0;
		if (split(line, f) < 3 || f[0].n == 0 || !to_id(f[2], &g) || !is_text(f[0], name))
			continue;
		*ret_gid = g;
		return true;
	}
	return false;
}

static bool has_member(bxc_slice members, const char *user)
{
	while (members.n) {
		const uint8_t *end = memchr(members.p, ',', members.n);
		size_t n = end ? (size_t)(end - members.p) : members.n;
		if (is_text((bxc_slice){members.p, n}, user))
			return true;
		size_t used = end ? n + 1 : n;
		members.p += used;
		members.n -= used;
	}
	return false;
}

void bxc_passwd_groups_of(bxc_slice group, const char *user, bxc_passwd_ids *ret)
{
	bxc_slice line, f[MAX_FIELDS];
	while (next_line(&group, &line)) {
		uint32_t g = 0;
		if (split(line, f) >= 4 && f[0].n && to_id(f[2], &g) && has_member(f[3], user))
			*bxc_arr_push(ret) = g;
	}
}
