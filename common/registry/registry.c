/* SPDX-License-Identifier: Apache-2.0 */
/* The object, and where each registry is asked. */
#include "common/registry/registry_internal.h"

#include <string.h>

#include "common/base/addr.h"
#include "common/base/mem.h"
#include "common/base/str.h"

static const char http[] = "http", https[] = "https";

bxc_reg *bxc_reg_new(bxc_http_client *client, const bxc_reg_config *c)
{
	bxc_reg *r = bxc_calloc(1, sizeof(*r));
	r->http = client;
	r->credentials = c->credentials;
	r->ud = c->ud;
	bxc_check(pthread_mutex_init(&r->lock, NULL) == 0);
	r->schemes = bxc_map_new(NULL);
	r->grants = bxc_map_new(bxc_reg__grant_free);
	for (size_t i = 0; i < c->n_hosts; i++)
		*bxc_arr_push(&r->hosts) = (reg_host){
			.domain = bxc_strdup(c->hosts[i].domain),
			.mirrors = bxc_strv_dup(c->hosts[i].mirrors),
			.plain_http = c->hosts[i].plain_http,
			.insecure = c->hosts[i].insecure,
		};
	return r;
}

void bxc_reg_free(bxc_reg *r)
{
	if (!r)
		return;
	BXC_ARR_FOREACH (h, &r->hosts) {
		free(h->domain);
		bxc_strv_free(h->mirrors);
	}
	bxc_arr_done(&r->hosts);
	bxc_map_free(r->schemes);
	bxc_map_free(r->grants);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

bool bxc_reg__is_loopback(const char *host)
{
	BXC_AUTOFREE char *name = bxc_addr_host(host);
	return name && bxc_addr_is_loopback(name);
}

static const reg_host *host_of(const bxc_reg *r, const char *domain)
{
	BXC_ARR_FOREACH (h, &r->hosts)
		if (bxc_str_eq(h->domain, domain))
			return h;
	return NULL;
}

/* `given` is "host[:port]", with an optional scheme. */
static void add_endpoint(const bxc_reg *r, const char *given, const char *domain, bool is_mirror,
	reg_endpoints *list)
{
	const char *only = bxc_str_has_prefix(given, "http://")	   ? http
			   : bxc_str_has_prefix(given, "https://") ? https
								   : NULL;
	if (only)
		given += strlen(only) + 3;
	reg_endpoint *e = bxc_arr_push(list);
	e->name = bxc_strndup(given, strcspn(given, "/"));
	e->domain = bxc_strdup(domain ? domain : e->name);
	e->is_mirror = is_mirror;
	const reg_host *h = host_of(r, e->domain);
	e->insecure = h && h->insecure;
	if (only) {
		e->schemes[e->n_schemes++] = only;
	} else if (h && h->plain_http) {
		e->schemes[e->n_schemes++] = http;
	} else if (bxc_reg__is_loopback(e->name)) {
		e->schemes[e->n_schemes++] = http;
		e->schemes[e->n_schemes++] = https;
	} else {
		e->schemes[e->n_schemes++] = https;
		if (e->insecure)
			e->schemes[e->n_schemes++] = http;
	}
}

void bxc_reg__endpoints(bxc_reg *r, const char *domain, bool with_mirrors, reg_endpoints *ret)
{
	const reg_host *h = host_of(r, domain);
	for (char *const *m = with_mirrors && h ? h->mirrors : NULL; m && *m; m++)
		add_endpoint(r, *m, NULL, true, ret);
	add_endpoint(r, bxc_str_eq(domain, "docker.io") ? "registry-1.docker.io" : domain, domain,
		false, ret);
}

void bxc_reg__endpoints_done(reg_endpoints *list)
{
	BXC_ARR_FOREACH (e, list) {
		free(e->name);
		free(e->domain);
	}
	bxc_arr_done(list);
}

void bxc_reg__outcome_add(reg_outcome *o, bxc_err *e)
{
	bxc_err **slot = bxc_err_code(e) == BXC_NOT_FOUND ? &o->not_found : &o->last;
	/* The last place is the registry itself: it decides, unless it could not be asked. */
	if (slot == &o->not_found) {
		bxc_err_free(o->last);
		o->last = NULL;
	}
	bxc_err_free(*slot);
	*slot = e;
}

int bxc_reg__outcome_take(reg_outcome *o, bxc_err **err)
{
	if (o->not_found && (!o->last || bxc_err_code(o->last) == BXC_UNAVAILABLE))
		return bxc_err_move(err, BXC_TAKE(o->not_found));
	return bxc_err_move(err, BXC_TAKE(o->last));
}

void bxc_reg__outcome_done(reg_outcome *o)
{
	bxc_err_free(o->last);
	bxc_err_free(o->not_found);
	*o = (reg_outcome){0};
}
