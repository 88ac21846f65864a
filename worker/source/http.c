/* SPDX-License-Identifier: Apache-2.0 */
/* Files of web servers, and files that a client sends: blobs of the store before they become a file
 * of a layer. */
#include "worker/source/source_internal.h"

#include <time.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/clock.h"
#include "common/remote/remote.h"

#define CHUNK	 (256u << 10)
#define FILE_MAX (UINT64_C(64) << 30) /* bytes of one file */

/* "Wed, 21 Oct 2015 07:28:00 GMT"; other forms of dates are no dates. */
static int64_t http_date(const char *text)
{
	struct tm tm = {0};
	const char *end = text ? strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm) : NULL;
	if (!end || *end)
		return INT64_MIN;
	time_t t = timegm(&tm);
	return t < 0 || t > INT64_MAX / BXC_NS_PER_S ? INT64_MIN : (int64_t)t * BXC_NS_PER_S;
}

/* The name in a Content-Disposition; only its last part counts, and only if a file may be called
 * so. */
static char *disposition_name(const char *header)
{
	const char *at = header ? strcasestr(header, "filename=") : NULL;
	if (!at || (at != header && at[-1] != ';' && at[-1] != ' '))
		return NULL;
	at += strlen("filename=");
	BXC_AUTOFREE char *name = *at == '"' ? bxc_strndup(at + 1, strcspn(at + 1, "\""))
					     : bxc_strndup(at, strcspn(at, "; "));
	const char *slash = strrchr(name, '/');
	const char *base = slash ? slash + 1 : name;
	return bxc_remote_is_file_name(base) ? bxc_strdup(base) : NULL;
}

/* Without the mark of a weak one and what compressing proxies add. */
static bool same_etag(const char *a, const char *b)
{
	if (!a || !b)
		return false;
	a += bxc_str_has_prefix(a, "W/") ? 2 : 0;
	b += bxc_str_has_prefix(b, "W/") ? 2 : 0;
	return bxc_str_eq(a, b);
}

/* One line, as it becomes a header. */
static bool is_line(bxc_slice v)
{
	for (size_t i = 0; i < v.n; i++)
		if (v.p[i] < ' ' || v.p[i] == 0x7f)
			return false;
	return v.n > 0;
}

/* The secret HTTP_AUTH_HEADER_<host> or HTTP_AUTH_TOKEN_<host> of the client; neither: as if not
 * asked. */
static int find_auth(const char *url, const bxc_src_client *c, bxc_secret **ret_header,
	bxc_secret **ret_token, bxc_err **err)
{
	BXC_AUTOFREE char *host = bxc_remote_host(url);
	BXC_AUTOFREE char *header = bxc_str_fmt("HTTP_AUTH_HEADER_%s", host),
			  *token = bxc_str_fmt("HTTP_AUTH_TOKEN_%s", host);
	int r = c->secret ? c->secret(header, ret_header, c->ud, err) : 0;
	if (r >= 0 && c->secret && !*ret_header)
		r = c->secret(token, ret_token, c->ud, err);
	if (r >= 0 && ((*ret_header && !is_line(bxc_secret_bytes(*ret_header))) ||
			      (*ret_token && !is_line(bxc_secret_bytes(*ret_token)))))
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "secret '%s': expected one line",
			*ret_header ? header : token);
	return r;
}

static int start(bxc_src *s, const char *method, const char *url, char *const *headers,
	const bxc_src_client *c, bxc_http_response **ret, bxc_err **err)
{
	bxc_http_request q = {.method = method, .url = url, .headers = headers};
	BXC_CLEANUP(bxc_secret_freep) bxc_secret *header = NULL, *token = NULL;
	int r = bxc_http_start(bxc_content_world_http(s->content), &q, c->cancel, ret, err);
	/* Credentials are asked for when the server wants some. */
	if (r < 0 || (bxc_http_status(*ret) != 401 && bxc_http_status(*ret) != 403))
		return r;
	r = find_auth(url, c, &header, &token, err);
	if (r < 0 || (!header && !token)) {
		if (r < 0)
			bxc_http_response_free(BXC_TAKE(*ret));
		return r;
	}
	BXC_AUTOSTRV char **more = bxc_strv_dup(headers);
	if (header)
		bxc_strv_pushf(
			&more, "Authorization: %s", (const char *)bxc_secret_bytes(header).p);
	q.headers = more;
	q.bearer = token;
	bxc_http_response_free(BXC_TAKE(*ret));
	r = bxc_http_start(bxc_content_world_http(s->content), &q, c->cancel, ret, err);
	for (char **h = more; header && h && *h; h++)
		explicit_bzero(*h, strlen(*h));
	return r;
}

static int download(
	bxc_src *s, const char *url, const bxc_src_client *c, bxc_src_pin *ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *q = NULL;
	BXC_CLEANUP(bxc_blob_abortp) bxc_blob_writer *w = NULL;
	int r = start(s, "GET", url, NULL, c, &q, err);
	if (r < 0)
		return r;
	if (bxc_http_status(q) < 200 || bxc_http_status(q) >= 300)
		return bxc_err_set(err,
			bxc_http_status(q) >= 500 ? BXC_UNAVAILABLE : BXC_FAILED_PRECONDITION,
			"invalid response status %d", bxc_http_status(q));
	if (bxc_http_content_length(q) > (int64_t)FILE_MAX)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "the file has more than %llu bytes",
			(unsigned long long)FILE_MAX);
	r = bxc_blob_begin(bxc_content_store(s->content), &w, err);
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(CHUNK);
	uint64_t total = 0;
	while (r >= 0) {
		ssize_t n = bxc_http_read(q, chunk, CHUNK, err);
		if (n <= 0) {
			r = (int)n;
			break;
		}
		total += (uint64_t)n;
		r = total > FILE_MAX ? bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
					       "the file has more than %llu bytes",
					       (unsigned long long)FILE_MAX)
				     : bxc_blob_append(w, chunk, (size_t)n, err);
	}
	bxc_blob_info info;
	if (r >= 0)
		r = bxc_blob_commit(BXC_TAKE(w), NULL, &info, err);
	if (r < 0)
		return r;
	char digest[BXC_DIGEST_STR_MAX];
	*ret = (bxc_src_pin){
		.id = bxc_strdup(bxc_digest_str(&info.digest, digest)),
		.filename = disposition_name(bxc_http_header(q, "Content-Disposition")),
		.etag = bxc_strdup(bxc_http_header(q, "ETag")),
		.time_ns = http_date(bxc_http_header(q, "Last-Modified")),
	};
	return 0;
}

/* HEAD, as some servers give tags but do not heed them. */
static int unchanged(bxc_src *s, const char *url, const bxc_src_pin *known, const bxc_src_client *c,
	bool *ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *q = NULL;
	BXC_AUTOSTRV char **headers = NULL;
	bxc_strv_pushf(&headers, "If-None-Match: %s", known->etag);
	int r = start(s, "HEAD", url, headers, c, &q, err);
	if (r < 0)
		return r;
	const char *etag = bxc_http_header(q, "ETag");
	*ret = (bxc_http_status(q) == 304 && !etag) ||
	       ((bxc_http_status(q) == 304 || bxc_http_status(q) == 200) &&
		       same_etag(etag, known->etag));
	return 0;
}

static bool is_etag(const char *s)
{
	if (bxc_str_empty(s) || strlen(s) > 1024)
		return false;
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			return false;
	return true;
}

int src_http_resolve(bxc_src *s, const bxc_op_source *op, const bxc_src_pin *known,
	const bxc_src_client *c, bxc_src_pin *ret, bxc_err **err)
{
	BXC_AUTOFREE char *shown = bxc_remote_redact(op->identifier);
	const char *sum = bxc_env_get(op->attrs, "http.checksum");
	bxc_digest d;
	bool same = false;
	int r = bxc_remote_check_http(op->identifier, err);
	if (r >= 0 && sum) {
		r = bxc_digest_parse(sum, &d, err);
		*ret = (bxc_src_pin){.id = r < 0 ? NULL : bxc_strdup(sum), .time_ns = INT64_MIN};
		return r;
	}
	if (r >= 0 && known && known->id && is_etag(known->etag))
		r = unchanged(s, op->identifier, known, c, &same, err);
	if (r >= 0 && same)
		*ret = (bxc_src_pin){bxc_strdup(known->id), NULL, bxc_strdup(known->filename),
			bxc_strdup(known->etag), known->time_ns};
	else if (r >= 0)
		r = download(s, op->identifier, c, ret, err);
	return bxc_err_wrap(err, r, "%s", shown);
}

/* ---- from the client ---- */

struct upload {
	bxc_blob_writer *w;
	uint64_t total;
};

static int to_store(const void *p, size_t n, void *ud, bxc_err **err)
{
	struct upload *u = ud;
	u->total += n;
	if (u->total > FILE_MAX)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "the file has more than %llu bytes",
			(unsigned long long)FILE_MAX);
	return bxc_blob_append(u->w, p, n, err);
}

static int upload(bxc_src *s, const bxc_digest *d, const bxc_src_client *c, bxc_err **err)
{
	struct upload u = {0};
	bxc_blob_info info;
	int r = c->upload ? bxc_blob_begin(bxc_content_store(s->content), &u.w, err)
			  : bxc_err_set(err, BXC_FAILED_PRECONDITION,
				    "the build has no client that could send the file");
	if (r < 0)
		return r;
	r = c->upload(d, to_store, &u, c->ud, err);
	if (r < 0)
		bxc_blob_abort(u.w);
	else
		r = bxc_blob_commit(u.w, d, &info, err);
	return r < 0 ? bxc_err_wrap(err, r, "context of the client") : 0;
}

int src_http_fetch(bxc_src *s, const bxc_op_source *op, const bxc_src_client *c, bxc_src_pin *pin,
	bxc_err **err)
{
	BXC_AUTOSRCPIN bxc_src_pin got = {0};
	bxc_digest d;
	int r = bxc_digest_parse(pin->id ? pin->id : "", &d, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "pin");
	bool is_here = bxc_blob_has(bxc_content_store(s->content), &d);
	if (!bxc_remote_is_http(op->identifier))
		return is_here ? 0 : upload(s, &d, c, err);
	/* A pin that came of no answer, as its digest was given, lacks what the server says of the
	 * file. */
	if (is_here && pin->time_ns != INT64_MIN)
		return 0;
	BXC_AUTOFREE char *shown = bxc_remote_redact(op->identifier);
	r = download(s, op->identifier, c, &got, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "%s", shown);
	if (!bxc_str_eq(got.id, pin->id))
		return bxc_err_set(err, BXC_FAILED_PRECONDITION,
			"digest mismatch for %s: %s (expected: %s)", shown, got.id, pin->id);
	if (pin->time_ns == INT64_MIN)
		pin->time_ns = got.time_ns;
	if (!pin->filename)
		pin->filename = BXC_TAKE(got.filename);
	return 0;
}
