/* SPDX-License-Identifier: Apache-2.0 */
/* Status codes and error bodies. */
#include "common/http/http.h"

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/json.h"

#define ERROR_BODY_MAX (16u << 10)

static const struct {
	int status;
	bxc_code code;
} table[] = {
	{400, BXC_INVALID_ARGUMENT}, {401, BXC_UNAUTHENTICATED}, {403, BXC_PERMISSION_DENIED}, {404, BXC_NOT_FOUND},
	{405, BXC_UNIMPLEMENTED}, {408, BXC_DEADLINE_EXCEEDED}, {409, BXC_ALREADY_EXISTS}, {412, BXC_FAILED_PRECONDITION},
	{413, BXC_RESOURCE_EXHAUSTED}, {416, BXC_OUT_OF_RANGE}, {429, BXC_RESOURCE_EXHAUSTED}, {499, BXC_CANCELED},
	{500, BXC_INTERNAL}, {501, BXC_UNIMPLEMENTED}, {502, BXC_UNAVAILABLE}, {503, BXC_UNAVAILABLE}, {504, BXC_DEADLINE_EXCEEDED},
};

bxc_code bxc_http_code_of_status(int status)
{
	if (status < 400)
		return BXC_OK;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(table); i++)
		if (table[i].status == status)
			return table[i].code;
	return status < 500 ? BXC_INVALID_ARGUMENT : BXC_UNAVAILABLE;
}

int bxc_http_status_of_code(bxc_code code)
{
	switch (code) {
	case BXC_OK:
		return 200;
	case BXC_DATA_LOSS:
	case BXC_UNKNOWN:
		return 500;
	case BXC_OUT_OF_RANGE:
		return 400;
	case BXC_ABORTED:
		return 409;
	case BXC_DEADLINE_EXCEEDED:
		return 504;
	case BXC_RESOURCE_EXHAUSTED:
		return 429;
	case BXC_UNIMPLEMENTED:
		return 501;
	case BXC_CANCELED:
	case BXC_INVALID_ARGUMENT:
	case BXC_NOT_FOUND:
	case BXC_ALREADY_EXISTS:
	case BXC_PERMISSION_DENIED:
	case BXC_FAILED_PRECONDITION:
	case BXC_INTERNAL:
	case BXC_UNAVAILABLE:
	case BXC_UNAUTHENTICATED:
		break;
	}
	for (size_t i = 0; i < BXC_ARRAY_SIZE(table); i++)
		if (table[i].code == code)
			return table[i].status;
	return 500;
}

/* The message of {"error":{...}} or {"errors":[{...}]}; owned or NULL. */
static char *message_of(const bxc_buf *body, bxc_code *code)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	if (bxc_json_parse(bxc_buf_slice(body), &j, NULL) < 0)
		return NULL;
	const bxc_json *e = bxc_json_get(j, "error");
	if (bxc_json_is_object(e)) {
		bxc_code c = bxc_code_parse(bxc_json_get_str(e, "code", ""));
		if (c != BXC_UNKNOWN && c != BXC_OK)
			*code = c;
	} else {
		e = bxc_json_first(bxc_json_get(j, "errors"));
	}
	const char *m = bxc_json_get_str(e, "message", NULL);
	return m && *m ? bxc_str_fmt("%.1024s", m) : bxc_strdup(bxc_json_get_str(e, "code", NULL));
}

int bxc_http_status_error(bxc_http_response *r, bxc_err **err, const char *what)
{
	int status = bxc_http_status(r);
	bxc_code code = bxc_http_code_of_status(status);
	BXC_AUTOBUF bxc_buf body = BXC_BUF_INIT(ERROR_BODY_MAX);
	bxc_ignore(bxc_http_read_all(r, &body, NULL));
	BXC_AUTOFREE char *m = message_of(&body, &code);
	if (code == BXC_OK)
		code = BXC_INTERNAL;
	if (m)
		return bxc_err_set(err, code, "%s: %s (status %d)", what, m, status);
	return bxc_err_set(err, code, "%s: unexpected status %d", what, status);
}
