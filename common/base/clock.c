/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/clock.h"

#include <string.h>
#include <time.h>

#include "common/base/str.h"

static int64_t read_clock(clockid_t id)
{
	struct timespec ts;
	bxc_check(clock_gettime(id, &ts) == 0);
	return (int64_t)ts.tv_sec * BXC_NS_PER_S + ts.tv_nsec;
}

int64_t bxc_clock_mono_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

int64_t bxc_clock_wall_ns(void)
{
	return read_clock(CLOCK_REALTIME);
}

int bxc_clock_left_ms(int64_t deadline_ns)
{
	int64_t left_ns = deadline_ns - bxc_clock_mono_ns();
	/* Rounded up: whoever wakes before the deadline has woken for nothing. */
	return left_ns <= 0 ? 0
			    : (int)BXC_MIN((left_ns - 1) / BXC_NS_PER_MS + 1, (int64_t)INT32_MAX);
}

char *bxc_clock_rfc3339(int64_t wall_ns)
{
	int64_t s = wall_ns / BXC_NS_PER_S, ns = wall_ns % BXC_NS_PER_S;
	if (ns < 0) {
		ns += BXC_NS_PER_S;
		s--;
	}
	time_t t = (time_t)s;
	struct tm tm;
	bxc_check(gmtime_r(&t, &tm) != NULL);
	char frac[16] = "";
	if (ns) {
		snprintf(frac, sizeof(frac), ".%09d", (int)ns);
		for (size_t n = strlen(frac); frac[n - 1] == '0'; n--)
			frac[n - 1] = '\0';
	}
	return bxc_str_fmt("%04d-%02d-%02dT%02d:%02d:%02d%sZ", tm.tm_year + 1900, tm.tm_mon + 1,
		tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, frac);
}

static bool digits(const char **p, int n, int *ret)
{
	int v = 0;
	for (int i = 0; i < n; i++, (*p)++) {
		if (**p < '0' || **p > '9')
			return false;
		v = v * 10 + (**p - '0');
	}
	*ret = v;
	return true;
}

static bool literal(const char **p, char c)
{
	if (**p != c)
		return false;
	(*p)++;
	return true;
}

/* The seconds and nanoseconds of `p`, false when it is no RFC 3339 time. */
static bool parse_rfc3339(const char *p, int64_t *ret_s, int *ret_ns)
{
	struct tm tm = {0};
	int year, mon, ns = 0, offset_s = 0;
	if (!digits(&p, 4, &year) || !literal(&p, '-') || !digits(&p, 2, &mon) || !literal(&p, '-') ||
		!digits(&p, 2, &tm.tm_mday) || (*p != 'T' && *p != 't'))
		return false;
	p++;
	if (!digits(&p, 2, &tm.tm_hour) || !literal(&p, ':') || !digits(&p, 2, &tm.tm_min) ||
		!literal(&p, ':') || !digits(&p, 2, &tm.tm_sec))
		return false;
	if (mon < 1 || mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 || tm.tm_min > 59 ||
		tm.tm_sec > 60)
		return false;
	if (*p == '.') {
		int scale = 100000000;
		p++;
		if (*p < '0' || *p > '9')
			return false;
		for (; *p >= '0' && *p <= '9'; p++, scale /= 10)
			ns += (*p - '0') * scale;
	}
	if (*p == 'Z' || *p == 'z') {
		p++;
	} else if (*p == '+' || *p == '-') {
		int sign = *p++ == '-' ? -1 : 1, h, m;
		if (!digits(&p, 2, &h) || !literal(&p, ':') || !digits(&p, 2, &m) || h > 23 || m > 59)
			return false;
		offset_s = sign * (h * 3600 + m * 60);
	} else {
		return false;
	}
	if (*p)
		return false;
	tm.tm_year = year - 1900;
	tm.tm_mon = mon - 1;
	*ret_s = (int64_t)timegm(&tm) - offset_s;
	*ret_ns = ns;
	return true;
}

int bxc_clock_parse_rfc3339(const char *s, int64_t *ret_wall_ns, bxc_err **err)
{
	int64_t t, v;
	int ns;
	if (!parse_rfc3339(s, &t, &ns))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "'%.64s' is not an RFC 3339 time", s);
	/* Go's zero time (year 1) lies outside int64 nanoseconds; the nearest instant stands for it. */
	if (__builtin_mul_overflow(t, BXC_NS_PER_S, &v) || __builtin_add_overflow(v, (int64_t)ns, &v))
		v = t < 0 ? INT64_MIN : INT64_MAX;
	*ret_wall_ns = v;
	return 0;
}
