/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "common/base/mem.h"
#include "common/oci/oci_internal.h"

static int wrong_kind(const char *key, const char *kind, bxc_err **err)
{
	int r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "field '%s' is not %s", key, kind);
	if (err)
		bxc_err_detail(*err, "field", "%s", key);
	return r;
}

static int too_many(const char *key, size_t max, bxc_err **err)
{
	return bxc_err_set(
		err, BXC_INVALID_ARGUMENT, "field '%s' has more than %zu entries", key, max);
}

int oci_opt_str(const bxc_json *obj, const char *key, char **ret, bxc_err **err)
{
	const bxc_json *m = bxc_json_get(obj, key);
	if (m && !bxc_json_is_string(m))
		return wrong_kind(key, "a string", err);
	*ret = bxc_strdup(bxc_json_string(m));
	return 0;
}

int oci_opt_bool(const bxc_json *obj, const char *key, bool *ret, bxc_err **err)
{
	const bxc_json *m = bxc_json_get(obj, key);
	bool v = false;
	if (m && !bxc_json_as_bool(m, &v))
		return wrong_kind(key, "true or false", err);
	*ret = v;
	return 0;
}

int oci_opt_i64(const bxc_json *obj, const char *key, int64_t *ret, bxc_err **err)
{
	const bxc_json *m = bxc_json_get(obj, key);
	int64_t v = 0;
	if (m && !bxc_json_as_i64(m, &v))
		return wrong_kind(key, "an exact integer", err);
	*ret = v;
	return 0;
}

int oci_opt_obj(const bxc_json *obj, const char *key, const bxc_json **ret, bxc_err **err)
{
	const bxc_json *m = bxc_json_get(obj, key);
	if (m && !bxc_json_is_object(m))
		return wrong_kind(key, "an object", err);
	*ret = m;
	return 0;
}

int oci_opt_arr(
	const bxc_json *obj, const char *key, size_t max, const bxc_json **ret, bxc_err **err)
{
	const bxc_json *m = bxc_json_get(obj, key);
	if (m && !bxc_json_is_array(m))
		return wrong_kind(key, "an array", err);
	if (bxc_json_len(m) > max)
		return too_many(key, max, err);
	*ret = m;
	return 0;
}

int oci_opt_strv(const bxc_json *obj, const char *key, char ***ret, bxc_err **err)
{
	const bxc_json *m = NULL;
	int r = oci_opt_arr(obj, key, OCI_LIST_MAX, &m, err);
	return r < 0 ? r : bxc_json_get_strv(obj, key, ret, err);
}

static int opt_members(
	const bxc_json *obj, const char *key, bool values, char ***ret, bxc_err **err)
{
	const bxc_json *m = NULL;
	int r = oci_opt_obj(obj, key, &m, err);
	if (r < 0)
		return r;
	size_t n = bxc_json_len(m), i = 0;
	if (n > OCI_LIST_MAX)
		return too_many(key, OCI_LIST_MAX, err);
	if (n == 0) {
		*ret = NULL;
		return 0;
	}
	BXC_AUTOSTRV char **v = bxc_calloc(n + 1, sizeof(*v));
	BXC_JSON_FOREACH (it, m) {
		const char *name = bxc_json_key(it);
		if (!values) {
			v[i++] = bxc_strdup(name);
			continue;
		}
		if (!bxc_json_is_string(it) && !bxc_json_is_null(it))
			return wrong_kind(key, "a map of strings", err);
		/* Kept as "key=value": a '=' in the key would move on reading it back. */
		if (strchr(name, '='))
			return bxc_err_set(err, BXC_UNIMPLEMENTED,
				"field '%s' has a key with '=': '%.100s'", key, name);
		v[i++] =
			bxc_str_fmt("%s=%s", name, bxc_json_is_null(it) ? "" : bxc_json_string(it));
	}
	*ret = BXC_TAKE(v);
	return 0;
}

int oci_opt_map(const bxc_json *obj, const char *key, char ***ret, bxc_err **err)
{
	return opt_members(obj, key, true, ret, err);
}

int oci_opt_set(const bxc_json *obj, const char *key, char ***ret, bxc_err **err)
{
	return opt_members(obj, key, false, ret, err);
}

/* By key: comparing whole "key=value" texts would put "a-b" before "a". */
static int cmp_pairs(const void *a, const void *b)
{
	const char *x = *(const char *const *)a, *y = *(const char *const *)b;
	size_t n = (size_t)(strchrnul(x, '=') - x), m = (size_t)(strchrnul(y, '=') - y);
	int c = memcmp(x, y, BXC_MIN(n, m));
	if (c)
		return c;
	return n == m ? 0 : n < m ? -1 : 1;
}

void oci_set_map(bxc_json *obj, const char *key, char *const *map)
{
	size_t n = bxc_strv_len(map);
	if (n == 0)
		return;
	BXC_AUTOFREE const char **sorted = bxc_reallocarray(NULL, n, sizeof(*sorted));
	memcpy(sorted, map, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), cmp_pairs);
	bxc_json *o = bxc_json_add_object(obj, key);
	for (size_t i = 0; i < n; i++) {
		const char *eq = strchrnul(sorted[i], '=');
		BXC_AUTOFREE char *k = bxc_strndup(sorted[i], (size_t)(eq - sorted[i]));
		bxc_json_set_str(o, k, *eq ? eq + 1 : "");
	}
}

void oci_set_set(bxc_json *obj, const char *key, char *const *set)
{
	size_t n = bxc_strv_len(set);
	if (n == 0)
		return;
	BXC_AUTOFREE char **sorted = bxc_memdup(set, (n + 1) * sizeof(*set));
	bxc_strv_sort(sorted);
	bxc_json *o = bxc_json_add_object(obj, key);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || strcmp(sorted[i - 1], sorted[i]) != 0)
			bxc_json_add_object(o, sorted[i]);
}

void oci_set_strv(bxc_json *obj, const char *key, char *const *v)
{
	if (v && *v)
		bxc_json_set_strv(obj, key, v);
}

void oci_set_str(bxc_json *obj, const char *key, const char *s)
{
	if (!bxc_str_empty(s))
		bxc_json_set_str(obj, key, s);
}
