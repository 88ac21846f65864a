/* SPDX-License-Identifier: Apache-2.0 */
/* Texts and small values: Go's print forms (the history of images is made of them), paths, ports.
 */
#include "coordinator/dockerfile/dockerfile_internal.h"

#include <arpa/inet.h>
#include <inttypes.h>

#include "common/base/utf8.h"

static bool in_ranges(uint32_t c, const uint32_t (*r)[2], size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (c >= r[i][0] && c <= r[i][1])
			return true;
	return false;
}

bool df_is_letter(uint32_t c)
{
	static const uint32_t letters[][2] = {{'A', 'Z'}, {'a', 'z'}, {0xaa, 0xaa}, {0xb5, 0xb5},
		{0xba, 0xba}, {0xc0, 0xd6}, {0xd8, 0xf6}, {0xf8, 0x2c1}, {0x370, 0x373},
		{0x376, 0x377}, {0x37b, 0x37d}, {0x37f, 0x37f}, {0x386, 0x386}, {0x388, 0x481},
		{0x48a, 0x556}, {0x560, 0x588}, {0x5d0, 0x5ea}, {0x620, 0x64a}, {0x671, 0x6d3},
		{0x904, 0x939}, {0xe01, 0xe30}, {0x10a0, 0x10fa}, {0x1100, 0x1248},
		{0x1e00, 0x1fbc}, {0x3041, 0x3096}, {0x30a1, 0x30fa}, {0x3105, 0x318e},
		{0x3400, 0x4dbf}, {0x4e00, 0x9fff}, {0xac00, 0xd7a3}, {0xf900, 0xfaff},
		{0xff21, 0xff3a}, {0xff41, 0xff5a}, {0x20000, 0x3134a}};
	return in_ranges(c, letters, BXC_ARRAY_SIZE(letters));
}

size_t df_next_rune(const char *p, uint32_t *ret)
{
	size_t n = bxc_utf8_next((const uint8_t *)p, strnlen(p, 4), ret);
	if (n)
		return n;
	*ret = 0xfffd;
	return 1;
}

static bool is_print(uint32_t c)
{
	static const uint32_t unprintable[][2] = {{0, 0x1f}, {0x7f, 0xa0}, {0xad, 0xad},
		{0x1680, 0x1680}, {0x2000, 0x200f}, {0x2028, 0x202f}, {0x205f, 0x206f},
		{0x3000, 0x3000}, {0xd800, 0xf8ff}, {0xfeff, 0xfeff}, {0xfff0, 0xfffb},
		{0xfffe, 0xffff}, {0xe0000, 0x10ffff}};
	return !in_ranges(c, unprintable, BXC_ARRAY_SIZE(unprintable));
}

int df_place(bxc_err **err, int r, const char *file, uint32_t line, uint32_t line_end)
{
	if (r >= 0 || !err || (*err && bxc_err_get_detail(*err, "line")))
		return r;
	bxc_err_wrap(err, r, "%s:%" PRIu32, file, line);
	bxc_err_detail(*err, "file", "%s", file);
	bxc_err_detail(*err, "line", "%" PRIu32, line);
	bxc_err_detail(*err, "line_end", "%" PRIu32, line_end);
	return r;
}

int df_unsupported(const char *what, bxc_err **err)
{
	return bxc_err_set(
		err, BXC_UNIMPLEMENTED, "%s is not supported by this version of bxc", what);
}

static void quote_rune(bxc_buf *b, uint32_t c, const char *p, size_t n)
{
	static const char plain[] = "\a\b\f\n\r\t\v\"\\", letter[] = "abfnrtv\"\\";
	const char *special = c && c < 0x80 ? strchr(plain, (char)c) : NULL;
	if (special)
		bxc_buf_addf(b, "\\%c", letter[special - plain]);
	else if (is_print(c))
		bxc_buf_add(b, p, n);
	else if (c < 0x80)
		bxc_buf_addf(b, "\\x%02" PRIx32, c);
	else if (c > 0xffff)
		bxc_buf_addf(b, "\\U%08" PRIx32, c);
	else
		bxc_buf_addf(b, "\\u%04" PRIx32, c);
}

static void quote_into(bxc_buf *b, const char *s)
{
	bxc_buf_addc(b, '"');
	for (size_t left = strlen(s); left;) {
		uint32_t c = 0;
		size_t n = bxc_utf8_next((const uint8_t *)s, left, &c);
		if (n)
			quote_rune(b, c, s, n);
		else
			bxc_buf_addf(b, "\\x%02x", (uint8_t)*s);
		n = n ? n : 1;
		s += n;
		left -= n;
	}
	bxc_buf_addc(b, '"');
}

char *df_go_quote(const char *s)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(strlen(s) * 10 + 4);
	quote_into(&b, s);
	return bxc_buf_steal(&b);
}

/* Go's %q of a list of strings. */
char *df_go_quote_list(char *const *v)
{
	size_t bytes = 16;
	for (char *const *p = v; p && *p; p++)
		bytes += strlen(*p) * 10 + 4;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(bytes);
	bxc_buf_addc(&b, '[');
	for (char *const *p = v; p && *p; p++) {
		if (p > v)
			bxc_buf_addc(&b, ' ');
		quote_into(&b, *p);
	}
	bxc_buf_addc(&b, ']');
	return bxc_buf_steal(&b);
}

char *df_go_list(char *const *v)
{
	BXC_AUTOFREE char *joined = bxc_strv_join(v, " ");
	return bxc_str_fmt("[%s]", joined);
}

/* "1.5" of 1500 thousandths, without trailing zeros. */
static char *fraction(uint64_t v, uint64_t unit, const char *name)
{
	uint64_t rest = v % unit;
	if (!rest)
		return bxc_str_fmt("%" PRIu64 "%s", v / unit, name);
	int width = 0;
	for (uint64_t u = unit; u > 1; u /= 10)
		width++;
	BXC_AUTOFREE char *digits = bxc_str_fmt("%0*" PRIu64, width, rest);
	for (size_t n = strlen(digits); n && digits[n - 1] == '0'; n--)
		digits[n - 1] = 0;
	return bxc_str_fmt("%" PRIu64 ".%s%s", v / unit, digits, name);
}

char *df_go_duration(int64_t ns)
{
	uint64_t v = ns < 0 ? 0 : (uint64_t)ns;
	if (v == 0)
		return bxc_strdup("0s");
	if (v < 1000)
		return fraction(v, 1, "ns");
	if (v < 1000000)
		return fraction(v, 1000, "\xc2\xb5s");
	if (v < 1000000000)
		return fraction(v, 1000000, "ms");
	uint64_t minutes = v / 60000000000, hours = minutes / 60;
	BXC_AUTOFREE char *seconds = fraction(v % 60000000000, 1000000000, "s");
	if (hours)
		return bxc_str_fmt("%" PRIu64 "h%" PRIu64 "m%s", hours, minutes % 60, seconds);
	return minutes ? bxc_str_fmt("%" PRIu64 "m%s", minutes, seconds) : bxc_strdup(seconds);
}

/* ---- paths ---- */

char *df_path_clean(const char *base, const char *path)
{
	BXC_AUTOFREE char *joined =
		*path == '/' ? bxc_strdup(path) : bxc_str_concat("/", base, "/", path);
	char *out = bxc_malloc(strlen(joined) + 2);
	size_t n = 0;
	for (const char *p = joined; *p;) {
		size_t len = strcspn(p, "/");
		if (len == 2 && memcmp(p, "..", 2) == 0) {
			while (n && out[n - 1] != '/')
				n--;
			n -= n ? 1 : 0;
		} else if (len && !(len == 1 && *p == '.')) {
			out[n++] = '/';
			memcpy(out + n, p, len);
			n += len;
		}
		p += len;
		p += *p ? 1 : 0;
	}
	if (!n)
		out[n++] = '/';
	out[n] = 0;
	return out;
}

/* ---- signals ---- */

static bool is_realtime_signal(const char *s)
{
	uint64_t n = 0;
	if (bxc_str_eq(s, "RTMIN") || bxc_str_eq(s, "RTMAX"))
		return true;
	if (bxc_str_has_prefix(s, "RTMIN+"))
		return bxc_str_to_u64(s + 6, 1, 15, &n, NULL) == 0;
	return bxc_str_has_prefix(s, "RTMAX-") && bxc_str_to_u64(s + 6, 1, 14, &n, NULL) == 0;
}

bool df_signal_valid(const char *s)
{
	static const char *const names[] = {"ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE",
		"HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT",
		"SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG",
		"USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ"};
	uint64_t n = 0;
	if (bxc_str_to_u64(s, 1, 64, &n, NULL) == 0)
		return true;
	BXC_AUTOFREE char *upper = bxc_str_upper(bxc_strdup(s));
	const char *name = bxc_str_has_prefix(upper, "SIG") ? upper + 3 : upper;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(names); i++)
		if (bxc_str_eq(name, names[i]))
			return true;
	return is_realtime_signal(name);
}

/* ---- ports ---- */

static int port_range(const char *s, uint64_t *first, uint64_t *last)
{
	const char *dash = strchr(s, '-');
	BXC_AUTOFREE char *a = dash ? bxc_strndup(s, (size_t)(dash - s)) : bxc_strdup(s);
	int r = bxc_str_to_u64(a, 0, 65535, first, NULL);
	*last = *first;
	if (r == 0 && dash)
		r = bxc_str_to_u64(dash + 1, *first, 65535, last, NULL);
	return r;
}

/* "127.0.0.1", "::1" or "[::1]" */
static bool is_address(const char *s)
{
	uint8_t raw[16];
	size_t n = strlen(s);
	bool bracketed = n >= 2 && s[0] == '[' && s[n - 1] == ']';
	BXC_AUTOFREE char *bare = bracketed ? bxc_strndup(s + 1, n - 2) : bxc_strdup(s);
	return inet_pton(AF_INET, bare, raw) == 1 || inet_pton(AF_INET6, bare, raw) == 1;
}

/* What stands before the port tells nothing of the image, but must be sound: [ip:][host:] */
static int check_host_part(const char *s, uint64_t n_ports, bxc_err **err)
{
	const char *colon = strrchr(s, ':');
	const char *host = colon ? colon + 1 : s;
	BXC_AUTOFREE char *ip = bxc_strndup(s, colon ? (size_t)(colon - s) : 0);
	uint64_t first = 0, last = 0;
	if (*ip && !is_address(ip))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid IP address: %.64s", ip);
	if (*host && port_range(host, &first, &last) < 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid hostPort: %.64s", host);
	if (*host && n_ports > 1 && last - first + 1 != n_ports)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"invalid ranges specified for container and host Ports: %" PRIu64
			" ports cannot be at %.64s",
			n_ports, host);
	return 0;
}

int df_ports(const char *spec, df_list *ports, bxc_err **err)
{
	const char *colon = strrchr(spec, ':');
	const char *port = colon ? colon + 1 : spec, *slash = strchr(port, '/');
	BXC_AUTOFREE char *proto = bxc_str_lower(bxc_strdup(slash && slash[1] ? slash + 1 : "tcp"));
	BXC_AUTOFREE char *number = bxc_strndup(port, strcspn(port, "/"));
	BXC_AUTOFREE char *host = bxc_strndup(spec, colon ? (size_t)(colon - spec) : 0);
	uint64_t first = 0, last = 0;
	if (!*number)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "no port specified: %.64s", spec);
	if (port_range(number, &first, &last) < 0)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "invalid containerPort: %.64s", number);
	if (!bxc_str_eq(proto, "tcp") && !bxc_str_eq(proto, "udp") && !bxc_str_eq(proto, "sctp"))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid proto: %.64s", proto);
	int r = check_host_part(host, last - first + 1, err);
	for (uint64_t p = first; r == 0 && p <= last; p++)
		*bxc_arr_push(ports) = bxc_str_fmt("%" PRIu64 "/%s", p, proto);
	return r;
}

/* ---- lists ---- */

void df_list_done(df_list *l)
{
	BXC_ARR_FOREACH (s, l)
		free(*s);
	bxc_arr_done(l);
}

char **df_list_finish(df_list *l)
{
	if (!l->n) {
		bxc_arr_done(l);
		return NULL;
	}
	*bxc_arr_push(l) = NULL;
	char **v = l->v;
	*l = (df_list){0};
	return v;
}

/* ---- heredocs ---- */

int df_doc_name_check(const char *name, bxc_err **err)
{
	if (strchr(name, '/') || bxc_str_eq(name, ".") || bxc_str_eq(name, ".."))
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "'%.64s' cannot be the name of a file", name);
	return 0;
}

char *df_with_docs(const char *text, const df_heredocs *docs)
{
	size_t bytes = strlen(text) + 1;
	BXC_ARR_FOREACH (d, docs)
		bytes += strlen(d->data) + strlen(d->name) + 1;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(bytes);
	bxc_buf_adds(&b, text);
	BXC_ARR_FOREACH (d, docs) {
		bxc_buf_addc(&b, '\n');
		bxc_buf_adds(&b, d->data);
		bxc_buf_adds(&b, d->name);
	}
	return bxc_buf_steal(&b);
}

/* ---- lines ---- */

char *df_strip_tabs(const char *s)
{
	char *out = bxc_malloc(strlen(s) + 1), *w = out;
	bool at_start = true;
	for (; *s; s++) {
		if (at_start && *s == '\t')
			continue;
		at_start = *s == '\n';
		*w++ = *s;
	}
	*w = 0;
	return out;
}

char *df_upper_first(const char *s)
{
	char *out = bxc_strdup(s);
	for (char *p = out; *p && *p != ' '; p++)
		if (*p >= 'a' && *p <= 'z')
			*p = (char)(*p - 'a' + 'A');
	return out;
}

/* Cuts the first line off; what is returned has no line end. */
static bxc_slice cut_line(bxc_slice *text)
{
	const uint8_t *nl = memchr(text->p, '\n', text->n);
	size_t n = nl ? (size_t)(nl - text->p) : text->n;
	bxc_slice line = {text->p, n};
	n += nl ? 1 : 0;
	*text = (bxc_slice){text->p + n, text->n - n};
	while (line.n && line.p[line.n - 1] == '\r')
		line.n--;
	return line;
}

static uint32_t count_lines(bxc_slice text)
{
	uint32_t n = 0;
	for (size_t i = 0; i < text.n; i++)
		n += text.p[i] == '\n';
	return n + (text.n && text.p[text.n - 1] != '\n');
}

char *bxc_df_excerpt(bxc_slice text, const char *name, uint32_t line, uint32_t line_end)
{
	static const char rule[] = "--------------------\n";
	uint32_t total = count_lines(text), start = line, end = BXC_MIN(line_end, total);
	if (!line || line > end)
		return bxc_strdup("");
	for (int pad = 0; pad < 4; pad++) {
		if (start > 1) {
			start--;
			pad++;
		}
		if (end < total) {
			end++;
			pad++;
		}
	}
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT((size_t)8 * BXC_LIMIT_DOCKERFILE);
	bxc_buf_addf(&b, "%s:%" PRIu32 "\n%s", name, line, rule);
	for (uint32_t i = 1; i <= end; i++) {
		bxc_slice s = cut_line(&text);
		if (i < start)
			continue;
		bxc_buf_addf(&b, " %3" PRIu32 " | %s %.*s\n", i,
			i >= line && i <= line_end ? ">>>" : "   ", (int)s.n, (const char *)s.p);
	}
	bxc_buf_adds(&b, rule);
	return bxc_buf_steal(&b);
}
