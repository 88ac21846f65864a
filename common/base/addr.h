/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts and ports as people write them: "host:port", "[::1]:7650", "https://host:port/path". */
#pragma once

#include "common/base/cleanup.h"
#include "common/base/err.h"

/* "host:port" or "[v6]:port" in parts; the host without brackets, owned. INVALID_ARGUMENT. */
BXC_MUST_CHECK int bxc_addr_split(
	const char *s, char **ret_host, uint16_t *ret_port, bxc_err **err);
char *bxc_addr_join(const char *host, uint16_t port); /* with brackets where needed; owned */
/* The host of "host", "host:port" or a URL, without brackets; owned. NULL: there is none, or a user
 * stands before it, which would make the host another than it seems. */
char *bxc_addr_host(const char *s);
/* "localhost" in any case, an address of 127.0.0.0/8, ::1. Names that only look so are not. */
bool bxc_addr_is_loopback(const char *host);
bool bxc_addr_is_wildcard(const char *host); /* 0.0.0.0, :: */
