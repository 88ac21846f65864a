/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WWW-Authenticate (RFC 9110, 11.6.1): challenges separated by commas, as are their parameters.
 * A name followed by '=' is a parameter of the challenge before it, any other name begins one.
 */
#include "common/registry/registry_internal.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

#define HEADER_MAX    8192u
#define TOKEN_CHARS   "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define TOKEN68_CHARS "-._~+/0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

void bxc_reg__challenge_done(reg_challenge *c)
{
	free(c->realm);
	free(c->service);
	*c = (reg_challenge){0};
}

/* The better of the two stays in `best`; Bearer is worth nothing without a realm. */
static void settle(reg_challenge *best, reg_challenge *seen)
{
	if (seen->kind == REG_AUTH_BEARER && bxc_str_empty(seen->realm))
		seen->kind = REG_AUTH_NONE;
	if (seen->kind > best->kind) {
		bxc_reg__challenge_done(best);
		*best = *seen;
		*seen = (reg_challenge){0};
	}
	bxc_reg__challenge_done(seen);
}

static const char *skip_blanks(const char *p)
{
	return p + strspn(p, " \t");
}

/* A token or a quoted string at *p, which moves behind it; owned, NULL when there is neither. */
static char *read_value(const char **p)
{
	const char *s = *p;
	if (*s != '"') {
		/* Real registries leave URLs unquoted. */
		size_t n = strcspn(s, " \t,");
		*p = s + n;
		return n ? bxc_strndup(s, n) : NULL;
	}
	BXC_AUTOFREE char *out = bxc_malloc(strlen(s));
	size_t k = 0;
	for (s++; *s && *s != '"'; s++) {
		if (*s == '\\' && s[1])
			s++;
		out[k++] = *s;
	}
	if (*s != '"')
		return NULL;
	out[k] = '\0';
	*p = s + 1;
	return BXC_TAKE(out);
}

static void set_param(reg_challenge *c, const char *name, size_t n, char *value)
{
	char **slot = n == 5 && strncasecmp(name, "realm", n) == 0     ? &c->realm
		      : n == 7 && strncasecmp(name, "service", n) == 0 ? &c->service
								       : NULL;
	if (slot && !*slot)
		*slot = value;
	else
		free(value);
}

void bxc_reg__challenge_add(reg_challenge *c, const char *value)
{
	reg_challenge seen = {0};
	const char *p = value;
	if (strlen(value) > HEADER_MAX)
		return;
	for (;;) {
		p += strspn(p, " \t,");
		size_t n = strspn(p, TOKEN_CHARS);
		if (n == 0)
			break;
		const char *name = p, *after = skip_blanks(p + n);
		if (*after == '=') {
			p = skip_blanks(after + 1);
			char *v = read_value(&p);
			if (!v)
				break;
			set_param(&seen, name, n, v);
			continue;
		}
		settle(c, &seen);
		if (n == 6 && strncasecmp(name, "bearer", n) == 0)
			seen.kind = REG_AUTH_BEARER;
		else if (n == 5 && strncasecmp(name, "basic", n) == 0)
			seen.kind = REG_AUTH_BASIC;
		p = after;
		/* "Negotiate YII=": one token68 instead of parameters. */
		size_t k = strspn(p, TOKEN68_CHARS), pad = strspn(p + k, "=");
		const char *end = skip_blanks(p + k + pad);
		if (k && (*end == ',' || *end == '\0') && (pad || after != name + n))
			p = end;
	}
	settle(c, &seen);
}
