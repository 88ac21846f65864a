/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/log.h"

#include <pthread.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define LOG_LINE_MAX (256u << 10)

static const char *const level_names[] = {"debug", "info", "notice", "warn", "error"};

static struct {
	char program[32];
	bxc_log_level min_level;
	bool json;
} config = {"bxc", BXC_LOG_INFO, false};

void bxc_log_setup(const char *program, bxc_log_level min_level, bxc_log_format format)
{
	snprintf(config.program, sizeof(config.program), "%s", program);
	config.min_level = min_level;
	config.json = format == BXC_LOG_AUTO ? !isatty(STDERR_FILENO) : format == BXC_LOG_JSON;
}

int bxc_log_level_parse(const char *s, bxc_log_level *ret, bxc_err **err)
{
	for (size_t i = 0; i < BXC_ARRAY_SIZE(level_names); i++) {
		if (bxc_str_eq(s, level_names[i])) {
			*ret = (bxc_log_level)i;
			return 0;
		}
	}
	return bxc_err_set(err, BXC_INVALID_ARGUMENT,
		"'%.32s' is no log level (debug, info, notice, warn, error)", s);
}

static void add_quoted(bxc_buf *b, const char *s)
{
	bxc_buf_addc(b, '"');
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		if (c == '"' || c == '\\') {
			bxc_buf_addc(b, '\\');
			bxc_buf_addc(b, *s);
		} else if (c < 0x20 || c == 0x7f) {
			bxc_buf_addf(b, "\\u%04x", c);
		} else {
			bxc_buf_addc(b, *s);
		}
		if (b->len > LOG_LINE_MAX / 2)
			break;
	}
	bxc_buf_addc(b, '"');
}

static void add_field(bxc_buf *b, const char *key, const char *value)
{
	if (!value)
		value = "";
	if (b->len > LOG_LINE_MAX / 2)
		return;
	if (config.json) {
		bxc_buf_addc(b, ',');
		add_quoted(b, key);
		bxc_buf_addc(b, ':');
		add_quoted(b, value);
	} else {
		bxc_buf_addf(b, " %s=", key);
		if (*value && !strpbrk(value, " \"\\\n\t\r\x1b"))
			bxc_buf_adds(b, value);
		else
			add_quoted(b, value);
	}
}

static void emit(bxc_log_level level, const char *event, const bxc_err *e, va_list ap)
{
	BXC_AUTOFREE char *now = bxc_clock_rfc3339(bxc_clock_wall_ns() / 1000000 * 1000000);
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(LOG_LINE_MAX);
	if (config.json)
		bxc_buf_addf(&b, "{\"time\":\"%s\",\"level\":\"%s\",\"program\":\"%s\",\"event\":\"%s\"", now,
			level_names[level], config.program, event);
	else
		bxc_buf_addf(&b, "%s %-6s %-24s", now, level_names[level], event);
	for (const char *key; (key = va_arg(ap, const char *));)
		add_field(&b, key, va_arg(ap, const char *));
	if (e) {
		add_field(&b, "error", bxc_err_text(e));
		add_field(&b, "code", bxc_code_name(bxc_err_code(e)));
	}
	bxc_buf_adds(&b, config.json ? "}\n" : "\n");
	/* One write per line: lines of several threads do not mix. */
	bxc_ignore(write(STDERR_FILENO, b.data, b.len));
}

void bxc_log(bxc_log_level level, const char *event, ...)
{
	if (level < config.min_level)
		return;
	va_list ap;
	va_start(ap, event);
	emit(level, event, NULL, ap);
	va_end(ap);
}

void bxc_log_err(bxc_log_level level, const char *event, const bxc_err *e, ...)
{
	if (level < config.min_level)
		return;
	va_list ap;
	va_start(ap, e);
	emit(level, event, e, ap);
	va_end(ap);
}
