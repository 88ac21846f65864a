/* SPDX-License-Identifier: Apache-2.0 */
/* Statuses, error codes, and the error bodies of our API and of registries. */
#include "common/http/http.h"

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/base/utf8.h"
#include "common/codec/json.h"

#define ERROR_BODY_MAX (16u << 10)
#define ERROR_TEXT_MAX 500

bxc_code bxc_http_code_of_status(int status)
{
	switch (status) {
	case 400:
	case 422:
		return BXC_INVALID_ARGUMENT;
	case 401:
	case 407:
		return BXC_UNAUTHENTICATED;
	case 403:
		return BXC_PERMISSION_DENIED;
	case 404:
	case 410:
		return BXC_NOT_FOUND;
	case 405:
	case 501:
		return BXC_UNIMPLEMENTED;
	case 408:
	case 504:
		return BXC_DEADLINE_EXCEEDED;
	case 409:
		return BXC_ALREADY_EXISTS;
	case 412:
		return BXC_FAILED_PRECONDITION;
	case 416:
		return BXC_OUT_OF_RANGE;
	case 413:
	case 429:
	case 507:
		return BXC_RESOURCE_EXHAUSTED;
	case 499:
		return BXC_CANCELED;
	case 500:
		return BXC_INTERNAL;
	default:
		break;
	}
	if (status >= 200 && status < 300)
		return BXC_OK;
	if (status > 500 && status < 600)
		return BXC_UNAVAILABLE;
	return status >= 400 && status < 500 ? BXC_INVALID_ARGUMENT : BXC_UNKNOWN;
}

int bxc_http_status_of_code(bxc_code code)
{
	return bxc_code_http_status(code);
}

/* "code: message" of one entry of a registry's list; owned or NULL. */
static char *registry_text(const bxc_json *errors)
{
	const bxc_json *e = bxc_json_first(errors);
	const char *code = bxc_json_get_str(e, "code", NULL),
		   *message = bxc_json_get_str(e, "message", NULL);
	if (!bxc_str_empty(code) && !bxc_str_empty(message))
		return bxc_str_fmt("%s: %s", code, message);
	if (!bxc_str_empty(message))
		return bxc_strdup(message);
	return bxc_str_empty(code) ? NULL : bxc_strdup(code);
}

/* The first line of plain text, without what a terminal would act on; owned or NULL. */
static char *plain_text(const bxc_buf *body)
{
	if (!bxc_utf8_valid(body->data, body->len))
		return NULL;
	BXC_AUTOFREE char *copy = bxc_strdup(bxc_buf_text(body));
	char *s = bxc_str_trim(copy);
	if (*s == '<')
		return NULL;
	s[strcspn(s, "\r\n")] = '\0';
	return *s ? bxc_strdup(s) : NULL;
}

int bxc_http_status_error(bxc_http_response *r, bxc_err **err, const char *what)
{
	int status = bxc_http_status(r);
	bxc_code code = bxc_http_code_of_status(status);
	BXC_AUTOBUF bxc_buf body = BXC_BUF_INIT(ERROR_BODY_MAX);
	BXC_AUTOJSON bxc_json *j = NULL;
	BXC_AUTOFREE char *text = NULL;
	BXC_AUTOFREE char *field = NULL;
	/* A cut body still tells something. */
	bxc_ignore(bxc_http_read_all(r, &body, NULL));
	if (bxc_json_parse(bxc_buf_slice(&body), &j, NULL) >= 0) {
		const bxc_json *e = bxc_json_get(j, "error");
		bxc_code named = bxc_code_parse(bxc_json_get_str(e, "code", ""));
		if (named != BXC_UNKNOWN && named != BXC_OK)
			code = named;
		const char *message = bxc_json_is_string(e) ? bxc_json_string(e)
							    : bxc_json_get_str(e, "message", NULL);
		field = bxc_strdup(bxc_json_get_str(e, "field", NULL));
		text = bxc_str_empty(message) ? registry_text(bxc_json_get(j, "errors"))
					      : bxc_strdup(message);
	} else if (body.len) {
		text = plain_text(&body);
	}
	if (code == BXC_OK)
		code = BXC_UNKNOWN;
	bxc_err *e = NULL;
	int k;
	if (text) {
		bxc_str_one_line(bxc_utf8_cut(text, ERROR_TEXT_MAX));
		k = bxc_err_set(&e, code, "%s: %s (HTTP status %d)", what, text, status);
	} else {
		k = bxc_err_set(&e, code, "%s: HTTP status %d", what, status);
	}
	if (field)
		bxc_err_detail(e, "field", "%s", field);
	bxc_err_detail(e, "http_status", "%d", status);
	bxc_ignore(bxc_err_move(err, e));
	return k;
}
