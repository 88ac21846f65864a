/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/err.h"

#include <errno.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

struct detail {
	char *key;
	char *value;
};

struct bxc_err {
	bxc_code code;
	int errnum;
	char *text;
	struct detail *details;
	size_t n_details;
};

static const char *const code_names[] = {
	[BXC_OK] = "OK",
	[BXC_CANCELED] = "CANCELED",
	[BXC_UNKNOWN] = "UNKNOWN",
	[BXC_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
	[BXC_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
	[BXC_NOT_FOUND] = "NOT_FOUND",
	[BXC_ALREADY_EXISTS] = "ALREADY_EXISTS",
	[BXC_PERMISSION_DENIED] = "PERMISSION_DENIED",
	[BXC_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
	[BXC_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
	[BXC_ABORTED] = "ABORTED",
	[BXC_OUT_OF_RANGE] = "OUT_OF_RANGE",
	[BXC_UNIMPLEMENTED] = "UNIMPLEMENTED",
	[BXC_INTERNAL] = "INTERNAL",
	[BXC_UNAVAILABLE] = "UNAVAILABLE",
	[BXC_DATA_LOSS] = "DATA_LOSS",
	[BXC_UNAUTHENTICATED] = "UNAUTHENTICATED",
};

const char *bxc_code_name(bxc_code code)
{
	if ((size_t)code >= BXC_ARRAY_SIZE(code_names))
		return "UNKNOWN";
	return code_names[code];
}

bxc_code bxc_code_parse(const char *name)
{
	for (size_t i = 0; name && i < BXC_ARRAY_SIZE(code_names); i++)
		if (strcmp(code_names[i], name) == 0)
			return (bxc_code)i;
	return BXC_UNKNOWN;
}

bxc_code bxc_code_from_errno(int errnum)
{
	switch (errnum) {
	case 0:
		return BXC_OK;
	case ECANCELED:
		return BXC_CANCELED;
	case EINVAL:
	case ENAMETOOLONG:
	case ENOTDIR:
	case EISDIR:
	case ELOOP:
	case EXDEV:
		return BXC_INVALID_ARGUMENT;
	case ETIMEDOUT:
		return BXC_DEADLINE_EXCEEDED;
	case ENOENT:
	case ESRCH:
		return BXC_NOT_FOUND;
	case EEXIST:
		return BXC_ALREADY_EXISTS;
	case EACCES:
	case EPERM:
	case EROFS:
		return BXC_PERMISSION_DENIED;
	case ENOSPC:
	case EDQUOT:
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case EFBIG:
		return BXC_RESOURCE_EXHAUSTED;
	case ENOSYS:
	case EOPNOTSUPP:
		return BXC_UNIMPLEMENTED;
	case EAGAIN:
	case ECONNREFUSED:
	case ECONNRESET:
	case ECONNABORTED:
	case ENETUNREACH:
	case EHOSTUNREACH:
	case EPIPE:
	case ENOTCONN:
		return BXC_UNAVAILABLE;
	case EBADMSG:
		return BXC_DATA_LOSS;
	default:
		return BXC_INTERNAL;
	}
}

int bxc_code_http_status(bxc_code code)
{
	switch (code) {
	case BXC_OK:
		return 200;
	case BXC_INVALID_ARGUMENT:
		return 400;
	case BXC_UNAUTHENTICATED:
		return 401;
	case BXC_PERMISSION_DENIED:
		return 403;
	case BXC_NOT_FOUND:
		return 404;
	case BXC_ALREADY_EXISTS:
	case BXC_ABORTED:
		return 409;
	case BXC_FAILED_PRECONDITION:
		return 412;
	case BXC_OUT_OF_RANGE:
		return 416;
	case BXC_RESOURCE_EXHAUSTED:
		return 429;
	case BXC_CANCELED:
		return 499;
	case BXC_UNIMPLEMENTED:
		return 501;
	case BXC_UNAVAILABLE:
		return 503;
	case BXC_DEADLINE_EXCEEDED:
		return 504;
	case BXC_UNKNOWN:
	case BXC_INTERNAL:
	case BXC_DATA_LOSS:
		break;
	}
	return 500;
}

bool bxc_code_is_transient(bxc_code code)
{
	return code == BXC_UNAVAILABLE || code == BXC_ABORTED;
}

int bxc_err_setv(bxc_err **err, bxc_code code, const char *fmt, va_list ap)
{
	bxc_check(code != BXC_OK);
	if (!err)
		return -(int)code;
	bxc_check(*err == NULL);
	bxc_err *e = bxc_calloc(1, sizeof(*e));
	e->code = code;
	e->text = bxc_str_vfmt(fmt, ap);
	*err = e;
	return -(int)code;
}

int bxc_err_set(bxc_err **err, bxc_code code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int r = bxc_err_setv(err, code, fmt, ap);
	va_end(ap);
	return r;
}

int bxc_err_errno(bxc_err **err, int errnum, const char *fmt, ...)
{
	if (errnum <= 0)
		errnum = EIO;
	bxc_code code = bxc_code_from_errno(errnum);
	if (!err)
		return -(int)code;

	char text[128];
	const char *msg = strerror_r(errnum, text, sizeof(text));
	va_list ap;
	va_start(ap, fmt);
	BXC_AUTOFREE char *prefix = bxc_str_vfmt(fmt, ap);
	va_end(ap);
	int r = bxc_err_set(err, code, "%s: %s", prefix, msg);
	(*err)->errnum = errnum;
	return r;
}

BXC_PRINTF(2, 0) static void wrapv(bxc_err *e, const char *fmt, va_list ap)
{
	BXC_AUTOFREE char *prefix = bxc_str_vfmt(fmt, ap);
	char *text = bxc_str_fmt("%s: %s", prefix, e->text);
	free(e->text);
	e->text = text;
}

int bxc_err_wrap(bxc_err **err, int r, const char *fmt, ...)
{
	if (!err || !*err)
		return r;
	va_list ap;
	va_start(ap, fmt);
	wrapv(*err, fmt, ap);
	va_end(ap);
	return r;
}

int bxc_err_wrap_take(bxc_err **err, bxc_err *src, int r, const char *fmt, ...)
{
	if (!src)
		return r;
	va_list ap;
	va_start(ap, fmt);
	wrapv(src, fmt, ap);
	va_end(ap);
	(void)bxc_err_move(err, src);
	return r;
}

int bxc_err_move(bxc_err **err, bxc_err *src)
{
	if (!src)
		return 0;
	int r = -(int)src->code;
	if (!err) {
		bxc_err_free(src);
		return r;
	}
	bxc_check(*err == NULL);
	*err = src;
	return r;
}

bxc_code bxc_err_code(const bxc_err *e)
{
	return e ? e->code : BXC_OK;
}

const char *bxc_err_text(const bxc_err *e)
{
	return e ? e->text : "";
}

int bxc_err_errnum(const bxc_err *e)
{
	return e ? e->errnum : 0;
}

bxc_err *bxc_err_copy(const bxc_err *e)
{
	if (!e)
		return NULL;
	bxc_err *c = bxc_calloc(1, sizeof(*c));
	c->code = e->code;
	c->errnum = e->errnum;
	c->text = bxc_strdup(e->text);
	for (size_t i = 0; i < e->n_details; i++)
		bxc_err_detail(c, e->details[i].key, "%s", e->details[i].value);
	return c;
}

void bxc_err_free(bxc_err *e)
{
	if (!e)
		return;
	for (size_t i = 0; i < e->n_details; i++) {
		free(e->details[i].key);
		free(e->details[i].value);
	}
	free(e->details);
	free(e->text);
	free(e);
}

void bxc_err_detail(bxc_err *e, const char *key, const char *fmt, ...)
{
	if (!e)
		return;
	va_list ap;
	va_start(ap, fmt);
	char *value = bxc_str_vfmt(fmt, ap);
	va_end(ap);
	for (size_t i = 0; i < e->n_details; i++) {
		if (strcmp(e->details[i].key, key) == 0) {
			free(e->details[i].value);
			e->details[i].value = value;
			return;
		}
	}
	e->details = bxc_reallocarray(e->details, e->n_details + 1, sizeof(*e->details));
	e->details[e->n_details++] = (struct detail){bxc_strdup(key), value};
}

const char *bxc_err_get_detail(const bxc_err *e, const char *key)
{
	for (size_t i = 0; e && i < e->n_details; i++)
		if (strcmp(e->details[i].key, key) == 0)
			return e->details[i].value;
	return NULL;
}

bool bxc_err_detail_at(const bxc_err *e, size_t i, const char **ret_key, const char **ret_value)
{
	if (!e || i >= e->n_details)
		return false;
	*ret_key = e->details[i].key;
	*ret_value = e->details[i].value;
	return true;
}
