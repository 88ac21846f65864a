/* SPDX-License-Identifier: Apache-2.0 */
#include "common/codec/json.h"

#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/base/utf8.h"
#include "common/codec/json_internal.h"

/* ---- parsing ---- */

static int cmp_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int duplicate_key(const char *key, bxc_err **err)
{
	int r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid JSON: duplicate key '%.100s'", key);
	if (err)
		bxc_err_detail(*err, "field", "%.100s", key);
	return r;
}

/* Pairwise for the usual handful of keys, by sorting for many, so that size is no weapon. */
static int check_object_keys(const cJSON *obj, bxc_err **err)
{
	enum { FEW = 12 };
	const char *few[FEW];
	size_t n = 0;
	for (const cJSON *m = obj->child; m; m = m->next) {
		if (n < FEW) {
			for (size_t i = 0; i < n; i++)
				if (strcmp(few[i], m->string) == 0)
					return duplicate_key(m->string, err);
			few[n] = m->string;
		}
		n++;
	}
	if (n <= FEW)
		return 0;
	BXC_AUTOFREE const char **keys = bxc_reallocarray(NULL, n, sizeof(*keys));
	size_t i = 0;
	for (const cJSON *m = obj->child; m; m = m->next)
		keys[i++] = m->string;
	qsort(keys, n, sizeof(*keys), cmp_keys);
	for (i = 1; i < n; i++)
		if (strcmp(keys[i - 1], keys[i]) == 0)
			return duplicate_key(keys[i], err);
	return 0;
}

/* Recursion is bounded by BXC_LIMIT_JSON_DEPTH, which json_scan has checked. */
static int check_keys(const cJSON *c, bxc_err **err)
{
	if (cJSON_IsObject(c)) {
		int r = check_object_keys(c, err);
		if (r < 0)
			return r;
	}
	for (const cJSON *m = c->child; m; m = m->next) {
		if (!m->child)
			continue;
		int r = check_keys(m, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int bxc_json_parse(bxc_slice text, bxc_json **ret, bxc_err **err)
{
	int r = json_scan(text, err);
	if (r < 0)
		return r;
	BXC_AUTOJSON bxc_json *j =
		json_pub(cJSON_ParseWithLengthOpts((const char *)text.p, text.n, NULL, false));
	if (!j)
		return bxc_err_set(
			err, BXC_RESOURCE_EXHAUSTED, "no memory for JSON of %zu bytes", text.n);
	r = check_keys(json_ro(j), err);
	if (r < 0)
		return r;
	*ret = BXC_TAKE(j);
	return 0;
}

void bxc_json_free(bxc_json *j)
{
	cJSON_Delete(json_rw(j));
}

static cJSON *must(cJSON *c)
{
	bxc_check(c != NULL);
	return c;
}

bxc_json *bxc_json_dup(const bxc_json *j)
{
	return j ? json_pub(must(cJSON_Duplicate(json_ro(j), true))) : NULL;
}

/* ---- kinds ---- */

bool bxc_json_is_object(const bxc_json *j)
{
	return cJSON_IsObject(json_ro(j));
}

bool bxc_json_is_array(const bxc_json *j)
{
	return cJSON_IsArray(json_ro(j));
}

bool bxc_json_is_string(const bxc_json *j)
{
	return cJSON_IsString(json_ro(j));
}

bool bxc_json_is_null(const bxc_json *j)
{
	return cJSON_IsNull(json_ro(j));
}

/* ---- reading ---- */

static cJSON *member(const cJSON *obj, const char *key)
{
	if (!cJSON_IsObject(obj))
		return NULL;
	for (cJSON *m = obj->child; m; m = m->next)
		if (strcmp(m->string, key) == 0)
			return m;
	return NULL;
}

const bxc_json *bxc_json_get(const bxc_json *obj, const char *key)
{
	const cJSON *m = member(json_ro(obj), key);
	return m && !cJSON_IsNull(m) ? json_cpub(m) : NULL;
}

const bxc_json *bxc_json_first(const bxc_json *j)
{
	const cJSON *c = json_ro(j);
	return cJSON_IsObject(c) || cJSON_IsArray(c) ? json_cpub(c->child) : NULL;
}

const bxc_json *bxc_json_next(const bxc_json *child)
{
	return json_cpub(json_ro(child)->next);
}

size_t bxc_json_len(const bxc_json *j)
{
	size_t n = 0;
	BXC_JSON_FOREACH (it, j)
		n++;
	return n;
}

const bxc_json *bxc_json_at(const bxc_json *arr, size_t i)
{
	BXC_JSON_FOREACH (it, arr)
		if (i-- == 0)
			return it;
	return NULL;
}

const char *bxc_json_key(const bxc_json *m)
{
	return m ? json_ro(m)->string : NULL;
}

const char *bxc_json_string(const bxc_json *j)
{
	return bxc_json_is_string(j) ? json_ro(j)->valuestring : NULL;
}

bool json_exact_i64(const cJSON *c, int64_t *ret)
{
	if (!cJSON_IsNumber(c))
		return false;
	double d = c->valuedouble;
	if (!(fabs(d) <= (double)JSON_EXACT_MAX) || d != trunc(d))
		return false;
	*ret = (int64_t)d;
	return true;
}

bool bxc_json_as_bool(const bxc_json *j, bool *ret)
{
	if (!cJSON_IsBool(json_ro(j)))
		return false;
	*ret = cJSON_IsTrue(json_ro(j));
	return true;
}

bool bxc_json_as_i64(const bxc_json *j, int64_t *ret)
{
	if (bxc_json_is_string(j) || cJSON_IsRaw(json_ro(j)))
		return bxc_str_to_i64(json_ro(j)->valuestring, INT64_MIN, INT64_MAX, ret, NULL) ==
		       0;
	return json_exact_i64(json_ro(j), ret);
}

static bool as_u64(const bxc_json *j, uint64_t *ret)
{
	if (bxc_json_is_string(j) || cJSON_IsRaw(json_ro(j)))
		return bxc_str_to_u64(json_ro(j)->valuestring, 0, UINT64_MAX, ret, NULL) == 0;
	int64_t v;
	if (!json_exact_i64(json_ro(j), &v) || v < 0)
		return false;
	*ret = (uint64_t)v;
	return true;
}

const char *bxc_json_get_str(const bxc_json *obj, const char *key, const char *fallback)
{
	const char *s = bxc_json_string(bxc_json_get(obj, key));
	return s ? s : fallback;
}

bool bxc_json_get_bool(const bxc_json *obj, const char *key, bool fallback)
{
	bool v;
	return bxc_json_as_bool(bxc_json_get(obj, key), &v) ? v : fallback;
}

int64_t bxc_json_get_i64(const bxc_json *obj, const char *key, int64_t fallback)
{
	int64_t v;
	return bxc_json_as_i64(bxc_json_get(obj, key), &v) ? v : fallback;
}

uint64_t bxc_json_get_u64(const bxc_json *obj, const char *key, uint64_t fallback)
{
	uint64_t v;
	return as_u64(bxc_json_get(obj, key), &v) ? v : fallback;
}

static int field_error(const bxc_json *obj, const char *key, const char *kind, bxc_err **err)
{
	int r;
	if (!bxc_json_is_object(obj))
		r = bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "expected an object with field '%s'", key);
	else if (!bxc_json_get(obj, key))
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "field '%s' is missing", key);
	else
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "field '%s' is not %s", key, kind);
	if (err)
		bxc_err_detail(*err, "field", "%s", key);
	return r;
}

int bxc_json_need_str(const bxc_json *obj, const char *key, const char **ret, bxc_err **err)
{
	const char *s = bxc_json_string(bxc_json_get(obj, key));
	if (!s)
		return field_error(obj, key, "a string", err);
	*ret = s;
	return 0;
}

int bxc_json_need_u64(
	const bxc_json *obj, const char *key, uint64_t max, uint64_t *ret, bxc_err **err)
{
	uint64_t v;
	if (!as_u64(bxc_json_get(obj, key), &v))
		return field_error(obj, key, "an exact non-negative integer", err);
	if (v > max) {
		int r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "field '%s' is larger than %llu",
			key, (unsigned long long)max);
		if (err)
			bxc_err_detail(*err, "field", "%s", key);
		return r;
	}
	*ret = v;
	return 0;
}

int bxc_json_need_obj(const bxc_json *obj, const char *key, const bxc_json **ret, bxc_err **err)
{
	const bxc_json *m = bxc_json_get(obj, key);
	if (!bxc_json_is_object(m))
		return field_error(obj, key, "an object", err);
	*ret = m;
	return 0;
}

int bxc_json_need_arr(const bxc_json *obj, const char *key, const bxc_json **ret, bxc_err **err)
{
	const bxc_json *m = bxc_json_get(obj, key);
	if (!bxc_json_is_array(m))
		return field_error(obj, key, "an array", err);
	*ret = m;
	return 0;
}

int bxc_json_get_strv(const bxc_json *obj, const char *key, char ***ret, bxc_err **err)
{
	const bxc_json *m = bxc_json_get(obj, key);
	if (!m) {
		*ret = NULL;
		return 0;
	}
	if (!bxc_json_is_array(m))
		return field_error(obj, key, "an array of strings", err);
	BXC_JSON_FOREACH (it, m)
		if (!bxc_json_is_string(it))
			return field_error(obj, key, "an array of strings", err);
	char **v = bxc_calloc(bxc_json_len(m) + 1, sizeof(*v));
	size_t n = 0;
	BXC_JSON_FOREACH (it, m)
		v[n++] = bxc_strdup(bxc_json_string(it));
	*ret = v;
	return 0;
}

/* ---- building ---- */

char *json_repaired(const char *s, size_t n)
{
	if (bxc_utf8_valid(s, n))
		return NULL;
	char *out = bxc_reallocarray(NULL, n + 1, 3);
	char *o = out;
	const uint8_t *p = (const uint8_t *)s;
	while (n) {
		uint32_t rune;
		size_t k = bxc_utf8_next(p, n, &rune);
		o = k ? mempcpy(o, p, k) : mempcpy(o, "\xef\xbf\xbd", 3);
		k = k ? k : 1;
		p += k;
		n -= k;
	}
	*o = '\0';
	return out;
}

bxc_json *bxc_json_object(void)
{
	return json_pub(must(cJSON_CreateObject()));
}

bxc_json *bxc_json_array(void)
{
	return json_pub(must(cJSON_CreateArray()));
}

bxc_json *bxc_json_new_str(const char *s)
{
	BXC_AUTOFREE char *fixed = json_repaired(s, strlen(s));
	return json_pub(must(cJSON_CreateString(fixed ? fixed : s)));
}

bxc_json *bxc_json_new_i64(int64_t v)
{
	if (v >= -JSON_EXACT_MAX && v <= JSON_EXACT_MAX)
		return json_pub(must(cJSON_CreateNumber((double)v)));
	char text[24];
	snprintf(text, sizeof(text), "%lld", (long long)v);
	return bxc_json_new_str(text);
}

static bxc_json *new_u64(uint64_t v)
{
	if (v <= INT64_MAX)
		return bxc_json_new_i64((int64_t)v);
	char text[24];
	snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
	return bxc_json_new_str(text);
}

void bxc_json_set_take(bxc_json *obj, const char *key, bxc_json *value)
{
	if (!value)
		return;
	cJSON *o = json_rw(obj);
	bxc_check(cJSON_IsObject(o));
	BXC_AUTOFREE char *fixed = json_repaired(key, strlen(key));
	cJSON *old = member(o, fixed ? fixed : key);
	if (old) {
		/* cJSON frees the new item's key before it takes over the old one's name. */
		cJSON *v = json_rw(value);
		free(v->string);
		v->string = bxc_strdup(old->string);
		bxc_check(cJSON_ReplaceItemViaPointer(o, old, v));
		return;
	}
	bxc_check(cJSON_AddItemToObject(o, fixed ? fixed : key, json_rw(value)));
}

void bxc_json_set_str(bxc_json *obj, const char *key, const char *value)
{
	if (value)
		bxc_json_set_take(obj, key, bxc_json_new_str(value));
}

void bxc_json_set_bool(bxc_json *obj, const char *key, bool value)
{
	bxc_json_set_take(obj, key, json_pub(must(cJSON_CreateBool(value))));
}

void bxc_json_set_i64(bxc_json *obj, const char *key, int64_t value)
{
	bxc_json_set_take(obj, key, bxc_json_new_i64(value));
}

void bxc_json_set_number(bxc_json *obj, const char *key, int64_t value)
{
	char text[24];
	if (value >= -JSON_EXACT_MAX && value <= JSON_EXACT_MAX) {
		bxc_json_set_i64(obj, key, value);
		return;
	}
	snprintf(text, sizeof(text), "%lld", (long long)value);
	bxc_json_set_take(obj, key, json_pub(must(cJSON_CreateRaw(text))));
}

void bxc_json_set_u64(bxc_json *obj, const char *key, uint64_t value)
{
	bxc_json_set_take(obj, key, new_u64(value));
}

void bxc_json_set_ns(bxc_json *obj, const char *key, int64_t ns)
{
	char text[24];
	snprintf(text, sizeof(text), "%lld", (long long)ns);
	bxc_json_set_str(obj, key, text);
}

void bxc_json_set_null(bxc_json *obj, const char *key)
{
	bxc_json_set_take(obj, key, json_pub(must(cJSON_CreateNull())));
}

void bxc_json_set_strv(bxc_json *obj, const char *key, char *const *v)
{
	bxc_json *a = bxc_json_array();
	for (; v && *v; v++)
		bxc_json_push_str(a, *v);
	bxc_json_set_take(obj, key, a);
}

void bxc_json_del(bxc_json *obj, const char *key)
{
	cJSON *o = json_rw(obj);
	cJSON *m = member(o, key);
	if (m)
		cJSON_Delete(cJSON_DetachItemViaPointer(o, m));
}

void bxc_json_push_take(bxc_json *arr, bxc_json *value)
{
	bxc_check(cJSON_IsArray(json_ro(arr)));
	bxc_check(cJSON_AddItemToArray(json_rw(arr), json_rw(value)));
}

void bxc_json_push_str(bxc_json *arr, const char *s)
{
	bxc_json_push_take(arr, bxc_json_new_str(s));
}

bxc_json *bxc_json_add_object(bxc_json *obj, const char *key)
{
	bxc_json *j = bxc_json_object();
	bxc_json_set_take(obj, key, j);
	return j;
}

bxc_json *bxc_json_add_array(bxc_json *obj, const char *key)
{
	bxc_json *j = bxc_json_array();
	bxc_json_set_take(obj, key, j);
	return j;
}

bxc_json *bxc_json_push_object(bxc_json *arr)
{
	bxc_json *j = bxc_json_object();
	bxc_json_push_take(arr, j);
	return j;
}
