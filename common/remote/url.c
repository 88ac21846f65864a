/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of URLs. */
#include "common/remote/remote_internal.h"

bool remote_is_plain(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s <= ' ' || *s == 0x7f)
			return false;
	return true;
}

char *remote_decode(const char *s, size_t n, bool plus)
{
	char *out = bxc_malloc(n + 1), *o = out;
	for (size_t i = 0; i < n; i++) {
		int c = (unsigned char)s[i];
		if (c == '%') {
			int hi = n - i > 2 ? bxc_str_hex_value(s[i + 1]) : -1;
			int lo = n - i > 2 ? bxc_str_hex_value(s[i + 2]) : -1;
			c = hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		if (c < ' ' || c == 0x7f) {
			free(out);
			return NULL;
		}
		*o++ = (char)c;
	}
	*o = 0;
	return out;
}

static size_t scheme_len(const char *s)
{
	const char *sep = strstr(s, "://");
	return sep ? (size_t)(sep - s) + 3 : 0;
}

bool bxc_remote_is_http(const char *s)
{
	return strncasecmp(s, "http://", 7) == 0 || strncasecmp(s, "https://", 8) == 0;
}

int bxc_remote_check_http(const char *url, bxc_err **err)
{
	if (strlen(url) >= BXC_LIMIT_PATH)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "a URL has more than %u bytes", BXC_LIMIT_PATH);
	if (!bxc_remote_is_http(url) || !remote_is_plain(url))
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "'%.256s' is no http or https URL", url);
	BXC_AUTOFREE char *host = bxc_remote_host(url);
	if (!*host || *host == '-' || *host == ':')
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "'%.256s' names no host", url);
	return 0;
}

bool bxc_remote_is_file_name(const char *name)
{
	if (bxc_str_empty(name) || strlen(name) > 255 || strchr(name, '/'))
		return false;
	for (const char *p = name; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return false;
	return !bxc_str_eq(name, ".") && !bxc_str_eq(name, "..");
}

char *bxc_remote_url_name(const char *url)
{
	const char *host = url + scheme_len(url), *path = host + strcspn(host, "/?#");
	BXC_AUTOFREE char *plain = remote_decode(path, strcspn(path, "?#"), false);
	if (!plain)
		return NULL;
	size_t n = strlen(plain);
	while (n && plain[n - 1] == '/')
		plain[--n] = 0;
	const char *slash = strrchr(plain, '/');
	const char *name = slash ? slash + 1 : plain;
	return bxc_remote_is_file_name(name) ? bxc_strdup(name) : NULL;
}

char *bxc_remote_host(const char *remote)
{
	const char *s = remote + scheme_len(remote);
	/* user@host:path has no scheme; its host ends at the colon. */
	const char *ends = s == remote ? ":/?#" : "/?#";
	const char *at = NULL;
	for (const char *p = s; *p && !strchr("/?#", *p); p++)
		if (*p == '@')
			at = p;
	if (at)
		s = at + 1;
	return bxc_strndup(s, strcspn(s, ends));
}

char *bxc_remote_redact(const char *url)
{
	size_t n = scheme_len(url);
	const char *s = url + n, *at = NULL;
	/* In user@host:path and ssh://user@host/path the user is no secret. */
	for (const char *p = s; n && *p && !strchr("/?#", *p); p++)
		if (*p == '@')
			at = p;
	if (!at)
		return bxc_strdup(url);
	const char *colon = memchr(s, ':', (size_t)(at - s));
	bool is_ssh = n == strlen("ssh://") && strncasecmp(url, "ssh", 3) == 0;
	if (is_ssh)
		return bxc_str_fmt("%.*s%s%s", (int)(colon ? colon - url : at - url), url,
			colon ? ":xxxxx" : "", at);
	return bxc_str_fmt("%.*sxxxxx%s%s", (int)n, url, colon ? ":xxxxx" : "", at);
}
