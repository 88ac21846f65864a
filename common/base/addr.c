/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

int bxc_addr_split(const char *s, char **ret_host, uint16_t *ret_port, bxc_err **err)
{
	const char *colon = strrchr(s, ':');
	uint64_t port;
	if (!colon || colon == s)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "'%s' is not host:port", s);
	int r = bxc_str_to_u64(colon + 1, 0, UINT16_MAX, &port, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "port of '%s'", s);
	size_t n = (size_t)(colon - s);
	if (n > 2 && s[0] == '[' && s[n - 1] == ']') {
		s++;
		n -= 2;
	}
	*ret_host = bxc_strndup(s, n);
	*ret_port = (uint16_t)port;
	return 0;
}

char *bxc_addr_join(const char *host, uint16_t port)
{
	return bxc_str_fmt(strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
}

char *bxc_addr_host(const char *s)
{
	const char *sep = strstr(s, "://");
	if (sep)
		s = sep + 3;
	size_t n = strcspn(s, "/?#");
	if (memchr(s, '@', n) || memchr(s, '\\', n))
		return NULL;
	if (*s == '[') {
		size_t end = strcspn(s, "]");
		return end < n && end > 1 ? bxc_strndup(s + 1, end - 1) : NULL;
	}
	n = BXC_MIN(n, strcspn(s, ":"));
	return n ? bxc_strndup(s, n) : NULL;
}

bool bxc_addr_is_loopback(const char *host)
{
	struct in_addr a4;
	struct in6_addr a6;
	if (bxc_str_eq_nocase(host, "localhost"))
		return true;
	if (inet_pton(AF_INET, host, &a4) == 1)
		return ntohl(a4.s_addr) >> 24 == 127;
	return inet_pton(AF_INET6, host, &a6) == 1 && IN6_IS_ADDR_LOOPBACK(&a6);
}

bool bxc_addr_is_wildcard(const char *host)
{
	struct in_addr a4;
	struct in6_addr a6;
	if (inet_pton(AF_INET, host, &a4) == 1)
		return a4.s_addr == INADDR_ANY;
	return inet_pton(AF_INET6, host, &a6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&a6);
}
