/* SPDX-License-Identifier: Apache-2.0 */
/* WWW-Authenticate of registries (RFC 9110 11.6.1; distribution token specification). */
#include "common/registry/registry_internal.h"

#include <string.h>
#include <strings.h>

#include "common/base/mem.h"
#include "common/base/str.h"

#define VALUE_MAX 4096u

void challenge_done(challenge *c)
{
	free(c->realm);
	free(c->service);
	free(c->scope);
	*c = (challenge){0};
}

/* key="value" or key=token; *p moves behind it. */
static bool pair(const char **p, char **key, char **value)
{
	while (**p == ' ' || **p == '\t' || **p == ',')
		(*p)++;
	size_t n = strcspn(*p, "= ,\t\"");
	if (n == 0 || (*p)[n] != '=')
		return false;
	*key = bxc_strndup(*p, n);
	*p += n + 1;
	if (**p != '"') {
		n = strcspn(*p, ", \t");
		*value = bxc_strndup(*p, n);
		*p += n;
		return true;
	}
	(*p)++;
	char *out = bxc_malloc(strlen(*p) + 1);
	size_t k = 0;
	while (**p && **p != '"') {
		if (**p == '\\' && (*p)[1])
			(*p)++;
		out[k++] = *(*p)++;
	}
	out[k] = '\0';
	if (**p == '"')
		(*p)++;
	*value = out;
	return true;
}

bool challenge_parse(const char *value, challenge *ret)
{
	const char *p = value;
	if (strlen(value) > VALUE_MAX)
		return false;
	if (strncasecmp(p, "Basic", 5) == 0 && (p[5] == ' ' || !p[5])) {
		ret->basic = true;
		p += 5;
	} else if (strncasecmp(p, "Bearer ", 7) == 0) {
		ret->bearer = true;
		p += 7;
	} else {
		return false;
	}
	char *k = NULL, *v = NULL;
	while (pair(&p, &k, &v)) {
		char **slot = strcasecmp(k, "realm") == 0 ? &ret->realm : strcasecmp(k, "service") == 0 ? &ret->service
			: strcasecmp(k, "scope") == 0 ? &ret->scope : NULL;
		if (slot && !*slot)
			*slot = BXC_TAKE(v);
		free(k);
		free(v);
		k = v = NULL;
	}
	return ret->basic || ret->realm;
}
