/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>

#include "common/codec/digest.h"
#include "common/registry/registry_test_fake.h"
#include "common/testing/testing.h"

#include "common/os/fd.h"

struct stored {
	char *media_type;
	bxc_buf bytes;
};

static void stored_free(void *p)
{
	struct stored *s = p;
	if (!s)
		return;
	free(s->media_type);
	bxc_buf_done(&s->bytes);
	free(s);
}

static struct stored *stored_new(const char *media_type, bxc_slice bytes)
{
	struct stored *s = bxc_calloc(1, sizeof(*s));
	s->media_type = bxc_strdup(media_type);
	bxc_buf_init(&s->bytes, bytes.n + 1);
	bxc_buf_add(&s->bytes, bytes.p, bytes.n);
	return s;
}

static char *repo_of(const bxc_httpd_req *req)
{
	return bxc_str_fmt(
		"%s/%s", bxc_httpd_req_param(req, "ns"), bxc_httpd_req_param(req, "name"));
}

static bool is_digest(const char *reference)
{
	return bxc_str_has_prefix(reference, "sha256:");
}

static char *key_of(const char *repo, const char *reference)
{
	return bxc_str_fmt("%s%s%s", repo, is_digest(reference) ? "@" : ":", reference);
}

static void say(bxc_httpd_req *req, int status, const char *text, char *const *headers)
{
	bxc_httpd_reply(req, status, "application/json", bxc_slice_of(text, strlen(text)), headers);
}

static void say_unknown(bxc_httpd_req *req, const char *code)
{
	BXC_AUTOFREE char *text =
		bxc_str_fmt("{\"errors\":[{\"code\":\"%s\",\"message\":\"not here\"}]}", code);
	say(req, 404, text, NULL);
}

/* True when the request was answered: busy, or not signed in. */
static bool turned_away(fake_registry *f, bxc_httpd_req *req)
{
	BXC_AUTOSTRV char **headers = NULL;
	const char *auth = bxc_httpd_req_header(req, "Authorization");
	pthread_mutex_lock(&f->lock);
	f->n_requests++;
	bool busy = f->busy > 0;
	f->busy -= busy;
	snprintf(f->last_authorization, sizeof(f->last_authorization), "%s", auth ? auth : "");
	bool ok = !(f->needs_token || f->needs_basic) ||
		  (f->needs_token && bxc_str_has_prefix(auth ? auth : "", "Bearer good-")) ||
		  (f->needs_basic && bxc_str_eq(auth, "Basic am9lOnNlY3JldA=="));
	if (ok && f->forget_tokens_once) {
		f->forget_tokens_once = false;
		ok = false;
	}
	if (f->needs_token)
		bxc_strv_pushf(&headers,
			"WWW-Authenticate: Bearer "
			"realm=\"http://%s/token\",service=\"fake\",scope=\"whatever\"",
			f->host);
	else
		bxc_strv_push(&headers, "WWW-Authenticate: Basic realm=\"fake\"");
	pthread_mutex_unlock(&f->lock);
	if (busy) {
		BXC_AUTOSTRV char **wait = NULL;
		if (f->retry_after)
			bxc_strv_pushf(&wait, "Retry-After: %s", f->retry_after);
		say(req, 503, "{}", wait);
	} else if (!ok) {
		say(req, 401,
			"{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication "
			"required\"}]}",
			headers);
	}
	return busy || !ok;
}

static void get_token(bxc_httpd_req *req, void *ud)
{
	fake_registry *f = ud;
	const char *auth = bxc_httpd_req_header(req, "Authorization"),
		   *scope = bxc_httpd_req_query(req, "scope");
	pthread_mutex_lock(&f->lock);
	f->n_tokens++;
	f->n_anonymous_tokens += auth == NULL;
	snprintf(f->last_scope, sizeof(f->last_scope), "%s", scope ? scope : "");
	bool denied = f->token_denies || !bxc_str_eq(bxc_httpd_req_query(req, "service"), "fake") ||
		      (auth && !bxc_str_eq(auth, "Basic am9lOnNlY3JldA=="));
	BXC_AUTOFREE char *text =
		bxc_str_fmt("{\"token\":\"good-%u\",\"expires_in\":300}", f->n_tokens);
	pthread_mutex_unlock(&f->lock);
	if (denied)
		say(req, 401,
			"{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"wrong password\"}]}",
			NULL);
	else
		say(req, 200, text, NULL);
}

static void get_manifest(bxc_httpd_req *req, void *ud)
{
	fake_registry *f = ud;
	BXC_AUTOSTRV char **headers = NULL;
	BXC_AUTOFREE char *repo = repo_of(req);
	BXC_AUTOFREE char *key = key_of(repo, bxc_httpd_req_param(req, "ref"));
	bool head = bxc_str_eq(bxc_httpd_req_method(req), "HEAD");
	if (turned_away(f, req))
		return;
	pthread_mutex_lock(&f->lock);
	f->n_head += head;
	const struct stored *s = bxc_map_get(f->manifests, key);
	pthread_mutex_unlock(&f->lock);
	if (head && f->no_head) {
		say(req, 405, "{}", NULL);
		return;
	}
	if (!s) {
		say_unknown(req, "MANIFEST_UNKNOWN");
		return;
	}
	bxc_digest d = bxc_digest_of(s->bytes.data, s->bytes.len);
	char text[BXC_DIGEST_STR_MAX];
	if (f->lies_about_digest)
		d = bxc_digest_of_str("a lie");
	if (!f->no_digest_header)
		bxc_strv_pushf(&headers, "Docker-Content-Digest: %s", bxc_digest_str(&d, text));
	bxc_httpd_reply(req, 200, f->content_type ? f->content_type : s->media_type,
		bxc_buf_slice(&s->bytes), headers);
}

static void put_manifest(bxc_httpd_req *req, void *ud)
{
	fake_registry *f = ud;
	BXC_AUTOFREE char *repo = repo_of(req);
	if (turned_away(f, req))
		return;
	fake_registry_put_manifest(f, repo, bxc_httpd_req_param(req, "ref"),
		bxc_httpd_req_header(req, "Content-Type"), bxc_httpd_req_body(req));
	say(req, 201, "", NULL);
}

static void get_blob(bxc_httpd_req *req, void *ud)
{
	fake_registry *f = ud;
	BXC_AUTOFREE char *repo = repo_of(req);
	BXC_AUTOFREE char *key = key_of(repo, bxc_httpd_req_param(req, "digest"));
	if (turned_away(f, req))
		return;
	pthread_mutex_lock(&f->lock);
	f->n_get_blob += bxc_str_eq(bxc_httpd_req_method(req), "GET");
	const struct stored *s = bxc_map_get(f->blobs, key);
	pthread_mutex_unlock(&f->lock);
	int fd = -1;
	if (!s)
		say_unknown(req, "BLOB_UNKNOWN");
	else if (bxc_fd_memfd("blob", s->bytes.data, s->bytes.len, false, &fd, NULL) < 0)
		say(req, 500, "{}", NULL);
	else
		bxc_httpd_reply_fd(req, fd, s->bytes.len, "application/octet-stream", NULL);
}

static void begin_upload(bxc_httpd_req *req, void *ud)
{
	fake_registry *f = ud;
	BXC_AUTOSTRV char **headers = NULL;
	BXC_AUTOFREE char *repo = repo_of(req);
	const char *mount = bxc_httpd_req_query(req, "mount"),
		   *from = bxc_httpd_req_query(req, "from");
	if (turned_away(f, req))
		return;
	pthread_mutex_lock(&f->lock);
	BXC_AUTOFREE char *to_key = mount ? key_of(repo, mount) : NULL;
	BXC_AUTOFREE char *from_key = mount && from ? key_of(from, mount) : NULL;
	const struct stored *s =
		from_key && !f->declines_mounts ? bxc_map_get(f->blobs, from_key) : NULL;
	if (s)
		bxc_map_set(f->blobs, to_key, stored_new(NULL, bxc_buf_slice(&s->bytes)));
	pthread_mutex_unlock(&f->lock);
	if (s) {
		say(req, 201, "", NULL);
		return;
	}
	bxc_strv_pushf(&headers, "Location: %s%s/v2/%s/blobs/uploads/17?_state=a%%2Fb",
		f->absolute_location ? "http://" : "",
		!f->absolute_location ? ""
		: f->upload_host      ? f->upload_host
				      : f->host,
		repo);
	say(req, 202, "", headers);
}

static void end_upload(bxc_httpd_req *req, void *ud)
{
	fake_registry *f = ud;
	BXC_AUTOFREE char *repo = repo_of(req);
	const char *digest = bxc_httpd_req_query(req, "digest");
	bxc_slice body = bxc_httpd_req_body(req);
	bxc_digest want, have = bxc_digest_of(body.p, body.n);
	if (turned_away(f, req))
		return;
	pthread_mutex_lock(&f->lock);
	f->n_uploads++;
	bool broken = f->break_put > 0;
	f->break_put -= broken;
	pthread_mutex_unlock(&f->lock);
	if (broken) {
		BXC_AUTOSTRV char **wait = NULL;
		if (f->retry_after)
			bxc_strv_pushf(&wait, "Retry-After: %s", f->retry_after);
		say(req, f->put_status ? f->put_status : 503, "{}", wait);
	} else if (!bxc_str_eq(bxc_httpd_req_query(req, "_state"), "a/b") || !digest ||
		   bxc_digest_parse(digest, &want, NULL) < 0 || !bxc_digest_eq(&want, &have)) {
		say(req, 400,
			"{\"errors\":[{\"code\":\"DIGEST_INVALID\",\"message\":\"provided digest "
			"did not match\"}]}",
			NULL);
	} else {
		fake_registry_put_blob(f, repo, &want, body);
		say(req, 201, "", NULL);
	}
}

static void drop_upload(bxc_httpd_req *req, void *ud)
{
	fake_registry *f = ud;
	if (turned_away(f, req))
		return;
	pthread_mutex_lock(&f->lock);
	f->n_delete++;
	pthread_mutex_unlock(&f->lock);
	say(req, 204, "", NULL);
}

static const bxc_httpd_route routes[] = {
	{"GET", "/token", get_token, 0, 0},
	{"GET", "/v2/{ns}/{name}/manifests/{ref}", get_manifest, 0, 0},
	{"PUT", "/v2/{ns}/{name}/manifests/{ref}", put_manifest, 8u << 20, 0},
	{"GET", "/v2/{ns}/{name}/blobs/{digest}", get_blob, 0, 0},
	{"POST", "/v2/{ns}/{name}/blobs/uploads/", begin_upload, 0, 0},
	{"PUT", "/v2/{ns}/{name}/blobs/uploads/{id}", end_upload, 64u << 20, 0},
	{"DELETE", "/v2/{ns}/{name}/blobs/uploads/{id}", drop_upload, 0, 0},
};

fake_registry *fake_registry_new(void)
{
	BXC_AUTOERR bxc_err *err = NULL;
	fake_registry *f = bxc_calloc(1, sizeof(*f));
	pthread_mutex_init(&f->lock, NULL);
	f->blobs = bxc_map_new(stored_free);
	f->manifests = bxc_map_new(stored_free);
	assert_ok(bxc_httpd_start(
			  &(bxc_httpd_config){
				  .routes = routes, .n_routes = BXC_ARRAY_SIZE(routes), .ud = f},
			  &f->server, &err),
		err);
	snprintf(f->host, sizeof(f->host), "127.0.0.1:%u", bxc_httpd_port(f->server));
	return f;
}

void fake_registry_free(fake_registry *f)
{
	bxc_httpd_stop(f->server);
	bxc_map_free(f->blobs);
	bxc_map_free(f->manifests);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

void fake_registry_put_blob(
	fake_registry *f, const char *repo, const bxc_digest *d, bxc_slice bytes)
{
	char text[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *key = key_of(repo, bxc_digest_str(d, text));
	pthread_mutex_lock(&f->lock);
	bxc_map_set(f->blobs, key, stored_new(NULL, bytes));
	pthread_mutex_unlock(&f->lock);
}

void fake_registry_put_manifest(fake_registry *f, const char *repo, const char *reference,
	const char *media_type, bxc_slice bytes)
{
	BXC_AUTOFREE char *key = key_of(repo, reference);
	pthread_mutex_lock(&f->lock);
	bxc_map_set(f->manifests, key, stored_new(media_type, bytes));
	pthread_mutex_unlock(&f->lock);
}

const bxc_buf *fake_registry_blob(fake_registry *f, const char *repo, const bxc_digest *d)
{
	char text[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *key = key_of(repo, bxc_digest_str(d, text));
	pthread_mutex_lock(&f->lock);
	const struct stored *s = bxc_map_get(f->blobs, key);
	pthread_mutex_unlock(&f->lock);
	return s ? &s->bytes : NULL;
}

const bxc_buf *fake_registry_manifest(fake_registry *f, const char *repo, const char *reference)
{
	BXC_AUTOFREE char *key = key_of(repo, reference);
	pthread_mutex_lock(&f->lock);
	const struct stored *s = bxc_map_get(f->manifests, key);
	pthread_mutex_unlock(&f->lock);
	return s ? &s->bytes : NULL;
}
