/* SPDX-License-Identifier: Apache-2.0 */
#include "client/builder/builder.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

#define NAME_MAX_LEN     128u
#define ENDPOINT_MAX_LEN 2048u

void bxc_builder_free(bxc_builder *b)
{
	if (!b)
		return;
	free(b->name);
	free(b->endpoint);
	free(b->ca_file);
	free(b->channel);
	bxc_secret_free(b->token);
	free(b);
}

bxc_builder *bxc_builder_copy(const bxc_builder *b)
{
	bxc_builder *n = bxc_calloc(1, sizeof(*n));
	n->name = bxc_strdup(b->name);
	n->endpoint = bxc_strdup(b->endpoint);
	n->ca_file = bxc_strdup(b->ca_file);
	n->channel = bxc_strdup(b->channel);
	n->embedded = b->embedded;
	if (b->token) {
		bxc_slice t = bxc_secret_bytes(b->token);
		n->token = bxc_secret_new(t.p, t.n);
	}
	return n;
}

static bool is_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool bxc_builder_name_is_valid(const char *name)
{
	size_t n = strlen(name);
	if (n > NAME_MAX_LEN || !is_alpha(name[0]))
		return false;
	for (size_t i = 1; i < n; i++)
		if (!is_alpha(name[i]) && !(name[i] >= '0' && name[i] <= '9') && !strchr("._-", name[i]))
			return false;
	return true;
}

/* ---- endpoints ---- */

/* The part behind "scheme://" up to the end of the host, with brackets; 0 when there is none. */
static size_t host_span(const char *authority)
{
	if (*authority == '[') {
		const char *end = strchr(authority, ']');
		return end ? (size_t)(end - authority) + 1 : 0;
	}
	return strcspn(authority, ":/?#@");
}

static int parse_authority(const char *endpoint, const char *authority, bxc_err **err)
{
	size_t n = host_span(authority);
	const char *rest = authority + n;
	uint64_t port = 0;
	if (!n)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "endpoint '%s' has no host", endpoint);
	if (!*rest)
		return 0;
	if (*rest != ':' || bxc_str_to_u64(rest + 1, 1, 65535, &port, NULL) < 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "endpoint '%s' is not of the form http://host:port", endpoint);
	return 0;
}

int bxc_builder_parse_endpoint(const char *endpoint, char **ret_url, char **ret_unix, bxc_err **err)
{
	if (strlen(endpoint) > ENDPOINT_MAX_LEN)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "the endpoint is too long");
	for (const char *c = endpoint; *c; c++)
		if ((unsigned char)*c <= ' ' || *c == 0x7f)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "the endpoint holds a blank or control character");
	if (bxc_str_has_prefix(endpoint, "unix:")) {
		const char *path = endpoint + strlen("unix:");
		if (bxc_str_has_prefix(path, "//"))
			path += 2;
		if (path[0] != '/')
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "endpoint '%s': the path of a socket is absolute", endpoint);
		*ret_url = bxc_strdup("http://localhost");
		*ret_unix = bxc_strdup(path);
		return 0;
	}
	BXC_AUTOFREE char *url = bxc_strdup(endpoint);
	size_t n = strlen(url);
	if (n && url[n - 1] == '/')
		url[n - 1] = '\0';
	const char *authority = bxc_str_has_prefix(url, "http://")    ? url + strlen("http://")
				: bxc_str_has_prefix(url, "https://") ? url + strlen("https://")
								      : NULL;
	if (!authority)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"endpoint '%s' is none of unix:PATH, http://host:port, https://host:port", endpoint);
	int r = parse_authority(endpoint, authority, err);
	if (r < 0)
		return r;
	*ret_url = BXC_TAKE(url);
	*ret_unix = NULL;
	return 0;
}

char *bxc_builder_channel_address(const char *endpoint, const char *channel)
{
	const char *from = strstr(endpoint, "://"), *to = strstr(channel, "://");
	if (!from || !to || bxc_str_has_prefix(endpoint, "unix:"))
		return bxc_strdup(channel);
	from += 3;
	to += 3;
	size_t n = host_span(to), m = host_span(from);
	bool wildcard = (n == 7 && memcmp(to, "0.0.0.0", n) == 0) || (n == 4 && memcmp(to, "[::]", n) == 0);
	if (!wildcard || !m)
		return bxc_strdup(channel);
	return bxc_str_fmt("%.*s%.*s%s", (int)(to - channel), channel, (int)m, from, to + n);
}
