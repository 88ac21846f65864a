/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Image references: the grammar of distribution/reference (regexp.go) and Docker's normalisation
 * (normalize.go: splitDockerDomain, ParseNormalizedNamed, TagNameOnly).
 */
#include <string.h>

#include "common/base/mem.h"
#include "common/oci/oci.h"

#define DEFAULT_DOMAIN "docker.io"
#define LEGACY_DOMAIN  "index.docker.io"
#define OFFICIAL       "library/"
#define NAME_MAX_BYTES 255
#define TAG_MAX_BYTES  128
/* Domain, path, tag and digest at their longest. */
#define REF_MAX_BYTES 1024

static bool is_lower(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
	return is_lower(c) || (c >= 'A' && c <= 'Z');
}

static bool has_upper(const char *s)
{
	for (; *s; s++)
		if (*s >= 'A' && *s <= 'Z')
			return true;
	return false;
}

/* alphanumeric runs joined by one of ".", "_", "__" or any number of "-" */
static bool good_component(const char *s, size_t n)
{
	size_t i = 0;
	for (;;) {
		size_t start = i;
		while (i < n && is_lower(s[i]))
			i++;
		if (i == start)
			return false;
		if (i == n)
			return true;
		if (s[i] == '-') {
			while (i < n && s[i] == '-')
				i++;
		} else if (s[i] == '_') {
			i++;
			if (i < n && s[i] == '_')
				i++;
		} else if (s[i] == '.') {
			i++;
		} else {
			return false;
		}
	}
}

static bool good_path(const char *s)
{
	for (;;) {
		const char *e = strchrnul(s, '/');
		if (!good_component(s, (size_t)(e - s)))
			return false;
		if (!*e)
			return true;
		s = e + 1;
	}
}

static bool good_port(const char *s)
{
	size_t n = strspn(s, "0123456789");
	return n && n <= 5 && !s[n];
}

static bool good_domain(const char *s)
{
	if (*s == '[') {
		size_t n = strspn(s + 1, "0123456789abcdefABCDEF:");
		const char *e = s + 1 + n;
		return n && *e == ']' && (!e[1] || (e[1] == ':' && good_port(e + 2)));
	}
	for (;;) {
		size_t n = 0;
		while (is_alnum(s[n]) || s[n] == '-')
			n++;
		if (n == 0 || s[0] == '-' || s[n - 1] == '-')
			return false;
		s += n;
		if (*s == '.')
			s++;
		else
			break;
	}
	return !*s || (*s == ':' && good_port(s + 1));
}

static bool good_tag(const char *s)
{
	size_t n = 0;
	while (is_alnum(s[n]) || s[n] == '_' || (n && (s[n] == '.' || s[n] == '-')))
		n++;
	return n && n <= TAG_MAX_BYTES && !s[n];
}

static bool is_hex_id(const char *s)
{
	return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

static int invalid(const char *s, const char *why, bxc_err **err)
{
	return bxc_err_set(
		err, BXC_INVALID_ARGUMENT, "invalid image reference '%.200s': %s", s, why);
}

/* Would the first component of `s`, which ends at `slash`, be read as a registry? */
static bool names_domain(const char *s, const char *slash)
{
	size_t n = (size_t)(slash - s);
	for (size_t i = 0; i < n; i++)
		if (s[i] == '.' || s[i] == ':' || (s[i] >= 'A' && s[i] <= 'Z'))
			return true;
	return n == strlen("localhost") && memcmp(s, "localhost", n) == 0;
}

/* "index.docker.io/busybox:1" -> "docker.io" and "library/busybox:1" */
static void split_domain(const char *s, char **ret_domain, char **ret_rest)
{
	const char *slash = strchr(s, '/');
	if (slash && names_domain(s, slash)) {
		*ret_domain = bxc_strndup(s, (size_t)(slash - s));
		*ret_rest = bxc_strdup(slash + 1);
		if (strcmp(*ret_domain, LEGACY_DOMAIN) == 0) {
			free(*ret_domain);
			*ret_domain = bxc_strdup(DEFAULT_DOMAIN);
		}
	} else {
		*ret_domain = bxc_strdup(DEFAULT_DOMAIN);
		*ret_rest = bxc_strdup(s);
	}
	if (strcmp(*ret_domain, DEFAULT_DOMAIN) == 0 && !strchr(*ret_rest, '/')) {
		char *official = bxc_str_fmt(OFFICIAL "%s", *ret_rest);
		free(*ret_rest);
		*ret_rest = official;
	}
}

int bxc_ref_parse(const char *s, bxc_ref *ret, bxc_err **err)
{
	BXC_AUTOREF bxc_ref ref = {0};
	if (bxc_str_empty(s))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "image reference is empty");
	if (strlen(s) > REF_MAX_BYTES)
		return invalid(s, "too long", err);
	if (is_hex_id(s))
		return invalid(s, "64 hexadecimal digits are an image id, not a name", err);

	BXC_AUTOFREE char *name = bxc_strdup(s);
	char *at = strchr(name, '@');
	if (at) {
		*at = '\0';
		int r = bxc_digest_parse(at + 1, &ref.digest, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "invalid image reference '%.200s'", s);
	}
	split_domain(name, &ref.domain, &ref.path);
	char *colon = strchr(ref.path, ':');
	if (colon) {
		*colon = '\0';
		if (!good_tag(colon + 1))
			return invalid(s,
				"the tag must be letters, digits, '_', '.' and '-', at most 128",
				err);
		ref.tag = bxc_strdup(colon + 1);
	}
	if (has_upper(ref.path))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"invalid image reference '%.200s': repository name '%.200s' must be "
			"lowercase",
			s, ref.path);
	if (!good_domain(ref.domain))
		return invalid(s, "the registry is no host name", err);
	if (!good_path(ref.path))
		return invalid(s,
			"the repository name must be lower-case letters and digits, joined by '.', "
			"'_', '-' or '/'",
			err);
	if (strlen(ref.path) > NAME_MAX_BYTES || strlen(ref.domain) > NAME_MAX_BYTES)
		return invalid(s, "the repository name is longer than 255 characters", err);
	if (!ref.tag && !bxc_digest_is_set(&ref.digest))
		ref.tag = bxc_strdup("latest");
	*ret = ref;
	ref = (bxc_ref){0};
	return 0;
}

void bxc_ref_done(bxc_ref *r)
{
	free(r->domain);
	free(r->path);
	free(r->tag);
	*r = (bxc_ref){0};
}

void bxc_ref_copy(bxc_ref *dst, const bxc_ref *src)
{
	*dst = (bxc_ref){.domain = bxc_strdup(src->domain),
		.path = bxc_strdup(src->path),
		.tag = bxc_strdup(src->tag),
		.digest = src->digest};
}

static char *with_suffix(const bxc_ref *r, const char *name)
{
	char digest[BXC_DIGEST_STR_MAX];
	bxc_digest_str(&r->digest, digest);
	return bxc_str_fmt("%s%s%s%s%s", name, r->tag ? ":" : "", r->tag ? r->tag : "",
		*digest ? "@" : "", digest);
}

char *bxc_ref_repo(const bxc_ref *r)
{
	return bxc_str_fmt("%s/%s", r->domain, r->path);
}

char *bxc_ref_str(const bxc_ref *r)
{
	BXC_AUTOFREE char *repo = bxc_ref_repo(r);
	return with_suffix(r, repo);
}

/* The name without tag and digest, as short as Docker writes it. */
static const char *familiar_path(const bxc_ref *r)
{
	if (strcmp(r->domain, DEFAULT_DOMAIN) != 0)
		return NULL;
	const char *path = r->path, *slash = strchr(path, '/');
	/* Docker shortens this as well, to a name that means another image. */
	if (slash && names_domain(path, slash))
		return NULL;
	if (bxc_str_has_prefix(path, OFFICIAL) && !strchr(path + strlen(OFFICIAL), '/'))
		path += strlen(OFFICIAL);
	return path;
}

char *bxc_ref_familiar(const bxc_ref *r)
{
	const char *path = familiar_path(r);
	return path ? with_suffix(r, path) : bxc_ref_str(r);
}

/* Of all that a reference and a platform may hold, only the slash of a platform needs an escape. */
char *bxc_ref_purl(const bxc_ref *r, const bxc_platform *p)
{
	char digest[BXC_DIGEST_STR_MAX];
	const char *path = familiar_path(r);
	BXC_AUTOFREE char *name = path ? bxc_strdup(path) : bxc_ref_repo(r);
	BXC_AUTOFREE char *platform = p ? bxc_platform_str(p) : NULL;
	BXC_AUTOSTRV char **parts = platform ? bxc_strv_split(platform, '/') : NULL;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT((size_t)4 * REF_MAX_BYTES);
	bxc_buf_addf(&b, "pkg:docker/%s", name);
	if (r->tag)
		bxc_buf_addf(&b, "@%s", r->tag);
	if (bxc_digest_is_set(&r->digest))
		bxc_buf_addf(&b, "?digest=%s", bxc_digest_str(&r->digest, digest));
	for (char **s = parts; s && *s; s++)
		bxc_buf_addf(&b, "%s%s", s != parts ? "%2F" : bxc_digest_is_set(&r->digest) ? "&platform=" : "?platform=", *s);
	return bxc_buf_steal(&b);
}
