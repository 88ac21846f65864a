/* SPDX-License-Identifier: Apache-2.0 */
/* Answers. They may come before the request sleeps, while it sleeps, or after its connection is
 * gone. */
#include "common/httpd/httpd_internal.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

void bxc_httpd__answer(bxc_httpd_req *r, int status, struct MHD_Response *response)
{
	pthread_mutex_lock(&r->lock);
	/* With is_answered the server has answered already, because it stops. */
	bool wanted = !r->is_answered && !r->is_closed;
	if (wanted) {
		r->is_answered = true;
		r->status = (unsigned)status;
		r->response = response;
		if (r->is_suspended) {
			r->is_suspended = false;
			MHD_resume_connection(r->conn);
		}
	}
	pthread_mutex_unlock(&r->lock);
	if (!wanted)
		MHD_destroy_response(response);
	bxc_httpd__req_unref(r);
}

void bxc_httpd__add_headers(struct MHD_Response *response, char *const *headers)
{
	for (char *const *h = headers; h && *h; h++) {
		const char *colon = strchr(*h, ':');
		bxc_check(colon != NULL);
		BXC_AUTOFREE char *name = bxc_strndup(*h, (size_t)(colon - *h));
		bxc_check(MHD_add_response_header(
				  response, name, colon + 1 + strspn(colon + 1, " \t")) == MHD_YES);
	}
}

static struct MHD_Response *from_bytes(const char *content_type, bxc_slice body)
{
	void *copy = bxc_memdup(body.p, body.n);
	struct MHD_Response *response =
		MHD_create_response_from_buffer(body.n, copy, MHD_RESPMEM_MUST_FREE);
	bxc_check(response != NULL);
	if (content_type)
		MHD_add_response_header(response, "Content-Type", content_type);
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	return response;
}

void bxc_httpd_reply(bxc_httpd_req *r, int status, const char *content_type, bxc_slice body,
	char *const *headers)
{
	struct MHD_Response *response = from_bytes(content_type, body);
	bxc_httpd__add_headers(response, headers);
	bxc_httpd__answer(r, status, response);
}

static struct MHD_Response *from_json(const bxc_json *j)
{
	BXC_AUTOFREE char *text = bxc_json_print(j);
	return from_bytes("application/json", bxc_slice_of(text, strlen(text)));
}

void bxc_httpd_reply_json(bxc_httpd_req *r, int status, bxc_json *j)
{
	struct MHD_Response *response = from_json(j);
	bxc_json_free(j);
	bxc_httpd__answer(r, status, response);
}

struct MHD_Response *bxc_httpd__error_response(const bxc_err *e)
{
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	bxc_json *o = bxc_json_add_object(j, "error");
	bxc_json_set_str(o, "code", bxc_code_name(bxc_err_code(e)));
	bxc_json_set_str(o, "message", bxc_err_text(e));
	bxc_json_set_str(o, "field", bxc_err_get_detail(e, "field"));
	struct MHD_Response *response = from_json(j);
	if (bxc_err_code(e) == BXC_UNAUTHENTICATED)
		MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
	const char *allow = bxc_err_get_detail(e, "allow");
	if (allow)
		MHD_add_response_header(response, "Allow", allow);
	return response;
}

void bxc_httpd_reply_err(bxc_httpd_req *r, bxc_err *e)
{
	bxc_check(e != NULL);
	struct MHD_Response *response = bxc_httpd__error_response(e);
	int status = bxc_code_http_status(bxc_err_code(e));
	bxc_err_free(e);
	bxc_httpd__answer(r, status, response);
}

/* One of the entity tags of a list, or "*". */
static bool etag_listed(const char *list, const char *quoted)
{
	return list && (bxc_str_eq(list, "*") || strstr(list, quoted) != NULL);
}

void bxc_httpd_reply_fd(
	bxc_httpd_req *r, int fd, uint64_t size, const char *content_type, const char *etag)
{
	BXC_AUTOCLOSE int owned_fd = fd;
	BXC_AUTOSTRV char **headers = NULL;
	BXC_AUTOFREE char *quoted = etag ? bxc_str_fmt("\"%s\"", etag) : NULL;
	uint64_t first = 0, last = size - 1;
	int status = 200;
	bxc_strv_push(&headers, "Accept-Ranges: bytes");
	if (quoted)
		bxc_strv_pushf(&headers, "ETag: %s", quoted);
	if (quoted && etag_listed(bxc_httpd_req_header(r, "If-None-Match"), quoted)) {
		bxc_httpd_reply(r, 304, NULL, bxc_slice_of("", 0), headers);
		return;
	}
	/* Ranges mean something for GET only (RFC 9110, 14.2); one of another version than the
	 * client has would mix the two. */
	const char *if_range = bxc_httpd_req_header(r, "If-Range");
	httpd_range range = HTTPD_RANGE_NONE;
	if (bxc_str_eq(r->method, "GET") && (!if_range || bxc_str_eq(if_range, quoted)))
		range = bxc_httpd__range_parse(
			bxc_httpd_req_header(r, "Range"), size, &first, &last);
	if (range == HTTPD_RANGE_UNSATISFIABLE) {
		bxc_strv_pushf(&headers, "Content-Range: bytes */%llu", (unsigned long long)size);
		bxc_httpd_reply(r, 416, NULL, bxc_slice_of("", 0), headers);
		return;
	}
	if (size == 0) {
		bxc_httpd_reply(r, status, content_type, bxc_slice_of("", 0), headers);
		return;
	}
	if (range == HTTPD_RANGE_OK) {
		status = 206;
		bxc_strv_pushf(&headers, "Content-Range: bytes %llu-%llu/%llu",
			(unsigned long long)first, (unsigned long long)last,
			(unsigned long long)size);
	}
	struct MHD_Response *response =
		MHD_create_response_from_fd_at_offset64(last - first + 1, owned_fd, first);
	bxc_check(response != NULL);
	bxc_ignore(BXC_TAKE_FD(owned_fd));
	if (content_type)
		MHD_add_response_header(response, "Content-Type", content_type);
	bxc_httpd__add_headers(response, headers);
	bxc_httpd__answer(r, status, response);
}

void bxc_httpd_reply_blob(bxc_httpd_req *r, bxc_blob_store *store)
{
	const char *digest = bxc_httpd_req_param(r, "digest");
	bxc_digest d;
	bxc_err *e = NULL;
	int fd = -1;
	uint64_t size;
	int k = bxc_digest_parse(digest, &d, &e);
	if (k >= 0)
		k = bxc_blob_open(store, &d, &fd, &size, &e);
	if (k < 0)
		bxc_httpd_reply_err(r, e);
	else
		bxc_httpd_reply_fd(r, fd, size, "application/octet-stream", digest);
}
