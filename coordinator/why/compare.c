/* SPDX-License-Identifier: Apache-2.0 */
/* Two lists of parts side by side. */
#include <string.h>

#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "coordinator/why/why.h"

static char *name_of(const bxc_json *part)
{
	return bxc_str_fmt(
		"%s %s", bxc_json_get_str(part, "c", ""), bxc_json_get_str(part, "n", ""));
}

static bool is_operation(const bxc_json *part)
{
	return bxc_str_eq(bxc_json_get_str(part, "c", ""), "operation");
}

/* Content decides where it is known of both, then what the input is called by; else the text. */
static bool is_equal(const bxc_json *old, const bxc_json *now)
{
	static const char *const keys[] = {"f", "k", "v"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(keys); i++) {
		const char *a = bxc_json_get_str(old, keys[i], NULL);
		const char *b = bxc_json_get_str(now, keys[i], NULL);
		if (a && b)
			return bxc_str_eq(a, b);
		if ((a || b) && i > 0)
			return false;
	}
	return true;
}

/* What people see of a part: of files what they hold, as the name of the context stays. */
static const char *shown(const bxc_json *part)
{
	const char *c = bxc_json_get_str(part, "c", "");
	const char *value = bxc_json_get_str(part, "v", NULL);
	const char *content = bxc_json_get_str(part, "f", bxc_json_get_str(part, "k", NULL));
	bool is_tree = bxc_str_eq(c, "files") || bxc_str_eq(c, "input");
	return (is_tree || !value) && content ? content : value;
}

static void tell(bxc_json *list, const bxc_json *old, const bxc_json *now)
{
	const bxc_json *any = now ? now : old;
	bxc_json *d = bxc_json_push_object(list);
	const char *c = bxc_json_get_str(any, "c", "");
	bool is_input = bxc_json_get(any, "f") || bxc_json_get(any, "m") ||
			bxc_json_get(any, "s") || bxc_str_eq(c, "files");
	bxc_json_set_str(d, "component", c);
	bxc_json_set_str(d, "name", bxc_json_get_str(any, is_input ? "v" : "n", NULL));
	if (old)
		bxc_json_set_str(d, "old", shown(old) ? shown(old) : "");
	if (now)
		bxc_json_set_str(d, "new", shown(now) ? shown(now) : "");
	bxc_json_set_str(d, "vertex", bxc_json_get_str(now, "s", NULL));
	bxc_json_set_str(d, "old_manifest", bxc_json_get_str(old, "m", NULL));
	bxc_json_set_str(d, "new_manifest", bxc_json_get_str(now, "m", NULL));
}

bxc_json *bxc_why_compare(const bxc_json *old, const bxc_json *now, size_t *ret_n)
{
	bxc_json *list = bxc_json_array();
	BXC_CLEANUP(bxc_map_freep) bxc_map *left = bxc_map_new(NULL);
	const bxc_json *old_op = NULL, *now_op = NULL;
	size_t n = 0;
	BXC_JSON_FOREACH (p, old) {
		BXC_AUTOFREE char *name = name_of(p);
		if (is_operation(p))
			old_op = p;
		else
			bxc_map_set(left, name, (void *)(uintptr_t)p);
	}
	BXC_JSON_FOREACH (p, now) {
		if (is_operation(p)) {
			now_op = p;
			continue;
		}
		BXC_AUTOFREE char *name = name_of(p);
		const bxc_json *o = bxc_map_take(left, name);
		if (o && is_equal(o, p))
			continue;
		if (n++ < BXC_WHY_MAX_DIFFS)
			tell(list, o, p);
	}
	/* What has gone, in the order it had. */
	BXC_JSON_FOREACH (p, old) {
		BXC_AUTOFREE char *name = name_of(p);
		if (bxc_map_get(left, name) == p && n++ < BXC_WHY_MAX_DIFFS)
			tell(list, p, NULL);
	}
	if (n == 0 && old_op && now_op && !is_equal(old_op, now_op)) {
		tell(list, old_op, now_op);
		n = 1;
	}
	*ret_n = n;
	return list;
}

/* ---- words ---- */

/* "sha256:0123456789ab", also at the end of a name. */
static char *short_digests(const char *s)
{
	static const char mark[] = "sha256:";
	const char *at = strstr(s, mark);
	if (!at || strlen(at) <= strlen(mark) + 12)
		return bxc_strdup(s);
	size_t keep = (size_t)(at - s) + strlen(mark) + 12;
	size_t hex = strspn(at + strlen(mark), "0123456789abcdef");
	return bxc_str_fmt("%.*s%s", (int)keep, s, at + strlen(mark) + BXC_MAX(hex, (size_t)12));
}

static char *quoted(const char *s)
{
	BXC_AUTOFREE char *text = short_digests(s);
	bxc_str_one_line(text);
	bool is_plain = *text && !strpbrk(text, " \"");
	return is_plain ? bxc_strdup(text) : bxc_str_fmt("\"%s\"", text);
}

/* "docker.io/library/busybox:latest" twice says nothing: only its digests are told. */
static size_t common_name(const char *old, const char *now)
{
	const char *at = strchr(old, '@');
	size_t n = at ? (size_t)(at - old) + 1 : 0;
	return n && strncmp(old, now, n) == 0 ? n : 0;
}

char *bxc_why_text(const bxc_json *diff)
{
	const char *component = bxc_json_get_str(diff, "component", "");
	const char *name = bxc_json_get_str(diff, "name", NULL);
	const char *old = bxc_json_get_str(diff, "old", NULL);
	const char *now = bxc_json_get_str(diff, "new", NULL);
	/* Numbers of arguments and inputs are no names. */
	bool is_numbered = name && *name && strspn(name, "0123456789") == strlen(name);
	BXC_AUTOFREE char *what = NULL;
	if (bxc_str_eq(component, "operation"))
		return bxc_strdup("the operation");
	size_t skip = old && now ? common_name(old, now) : 0;
	if (skip)
		what = bxc_str_fmt("%s %.*s", component, (int)(skip - 1), now);
	else if (!bxc_str_empty(name) && !is_numbered)
		what = bxc_str_fmt("%s %s", component, name);
	else
		what = bxc_strdup(component);
	bxc_str_one_line(what);
	BXC_AUTOFREE char *a = old ? quoted(old + skip) : NULL;
	BXC_AUTOFREE char *b = now ? quoted(now + skip) : NULL;
	if (a && b)
		return bxc_str_fmt("%s %s -> %s", what, a, b);
	const char *verb = now ? "added" : "removed", *value = now ? now : old;
	if (bxc_str_empty(value))
		return bxc_str_fmt("%s %s", what, verb);
	return bxc_str_fmt("%s %s: %s", what, verb, b ? b : a);
}
