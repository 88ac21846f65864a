/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Platforms, by the rules of containerd/platforms (database.go, compare.go): names are lower case
 * and normalised, variants that are the base of an architecture are dropped. Differs on purpose:
 * an unknown system or architecture is an error, and amd64 does not take 386.
 */
#include <string.h>
#include <sys/utsname.h>

#include "common/base/mem.h"
#include "common/oci/oci_internal.h"

static const char *const known_os[] = {"linux", "windows", "darwin", "freebsd", "aix", "android",
	"dragonfly", "illumos", "ios", "js", "netbsd", "openbsd", "plan9", "solaris", "wasip1",
	"zos"};
static const char *const known_arch[] = {"amd64", "arm64", "arm", "386", "riscv64", "ppc64le",
	"s390x", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc", "riscv", "s390",
	"sparc64", "sparc", "wasm", "armbe", "arm64be"};

static bool known(const char *s, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], s) == 0)
			return true;
	return false;
}

static void set(char *dst, size_t cap, const char *s)
{
	snprintf(dst, cap, "%s", s);
}

bxc_platform bxc_platform_normalize(bxc_platform p)
{
	static const struct {
		const char *alias, *arch, *variant;
	} aliases[] = {{"i386", "386", ""}, {"x86_64", "amd64", NULL}, {"x86-64", "amd64", NULL},
		{"aarch64", "arm64", NULL}, {"armhf", "arm", "v7"}, {"armel", "arm", "v6"}};
	bxc_str_lower(p.os);
	bxc_str_lower(p.arch);
	bxc_str_lower(p.variant);
	if (strcmp(p.os, "macos") == 0)
		set(p.os, sizeof(p.os), "darwin");
	for (size_t i = 0; i < BXC_ARRAY_SIZE(aliases); i++) {
		if (strcmp(p.arch, aliases[i].alias) != 0)
			continue;
		set(p.arch, sizeof(p.arch), aliases[i].arch);
		if (aliases[i].variant)
			set(p.variant, sizeof(p.variant), aliases[i].variant);
		break;
	}
	if (strcmp(p.arch, "amd64") == 0 && strcmp(p.variant, "v1") == 0) {
		p.variant[0] = '\0';
	} else if (strcmp(p.arch, "arm64") == 0 &&
		   (strcmp(p.variant, "v8") == 0 || strcmp(p.variant, "8") == 0)) {
		p.variant[0] = '\0';
	} else if (strcmp(p.arch, "arm") == 0) {
		if (!p.variant[0])
			set(p.variant, sizeof(p.variant), "v7");
		else if (p.variant[0] >= '5' && p.variant[0] <= '8' && !p.variant[1])
			set(p.variant, sizeof(p.variant), (const char[]){'v', p.variant[0], '\0'});
	}
	return p;
}

bxc_platform bxc_platform_host(void)
{
	bxc_platform p = {0};
	struct utsname u;
	bxc_check(uname(&u) == 0);
	set(p.os, sizeof(p.os), "linux");
	/* 32-bit ARM kernels say armv6l, armv7l. */
	if (strncmp(u.machine, "armv", 4) == 0) {
		set(p.arch, sizeof(p.arch), "arm");
		set(p.variant, sizeof(p.variant), (const char[]){u.machine[4], '\0'});
	} else if (u.machine[0] == 'i' && strcmp(u.machine + 2, "86") == 0) {
		set(p.arch, sizeof(p.arch), "386");
	} else if (strcmp(u.machine, "loongarch64") == 0) {
		set(p.arch, sizeof(p.arch), "loong64");
	} else {
		snprintf(p.arch, sizeof(p.arch), "%.31s", u.machine);
	}
	return bxc_platform_normalize(p);
}

static int malformed(const char *s, bxc_err **err)
{
	return bxc_err_set(err, BXC_INVALID_ARGUMENT,
		"'%.100s' is no platform: expected os/arch or os/arch/variant, like linux/amd64",
		s);
}

/* "windows(10.0.17763)" holds a version of the system. */
static bool split_os(char *part, bxc_platform *p)
{
	char *open = strchr(part, '(');
	if (open) {
		size_t n = strlen(open);
		if (open[n - 1] != ')' || n < 3 || n - 2 >= sizeof(p->os_version))
			return false;
		memcpy(p->os_version, open + 1, n - 2);
		p->os_version[n - 2] = '\0';
		*open = '\0';
	}
	return true;
}

static bool good_part(const char *s, size_t cap)
{
	size_t n = strlen(s);
	return n && n < cap &&
	       strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == n;
}

static int unknown(const char *s, const bxc_platform *p, bxc_err **err)
{
	bool os_ok = known(p->os, known_os, BXC_ARRAY_SIZE(known_os));
	const char *near = os_ok ? bxc_str_nearest(p->arch, known_arch, BXC_ARRAY_SIZE(known_arch))
				 : bxc_str_nearest(p->os, known_os, BXC_ARRAY_SIZE(known_os));
	if (near)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"'%.100s' is no known platform (did you mean %s%s%s?)", s,
			os_ok ? p->os : near, "/", os_ok ? near : p->arch);
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "'%.100s' is no known platform", s);
}

int bxc_platform_parse(const char *s, bxc_platform *ret, bxc_err **err)
{
	bxc_platform p = {0};
	if (bxc_str_empty(s) || strlen(s) > 200)
		return malformed(s ? s : "", err);
	BXC_AUTOSTRV char **parts = bxc_strv_split(s, '/');
	size_t n = bxc_strv_len(parts);
	if (n > 3 || !split_os(parts[0], &p) || !good_part(parts[0], sizeof(p.os)) ||
		(n > 1 && !good_part(parts[1], sizeof(p.arch))) ||
		(n > 2 && !good_part(parts[2], sizeof(p.variant))))
		return malformed(s, err);
	if (n == 1) {
		/* One word is a system if it is one, else an architecture of linux. */
		set(p.os, sizeof(p.os), parts[0]);
		p = bxc_platform_normalize(p);
		if (known(p.os, known_os, BXC_ARRAY_SIZE(known_os))) {
			bxc_platform host = bxc_platform_host();
			memcpy(p.arch, host.arch, sizeof(p.arch));
			memcpy(p.variant, host.variant, sizeof(p.variant));
		} else {
			set(p.os, sizeof(p.os), "linux");
			set(p.arch, sizeof(p.arch), parts[0]);
		}
	} else {
		set(p.os, sizeof(p.os), parts[0]);
		set(p.arch, sizeof(p.arch), parts[1]);
		if (n > 2)
			set(p.variant, sizeof(p.variant), parts[2]);
	}
	p = bxc_platform_normalize(p);
	if (!known(p.os, known_os, BXC_ARRAY_SIZE(known_os)) ||
		!known(p.arch, known_arch, BXC_ARRAY_SIZE(known_arch)))
		return unknown(s, &p, err);
	*ret = p;
	return 0;
}

char *bxc_platform_str(const bxc_platform *p)
{
	const char *arch_sep = p->arch[0] ? "/" : "", *variant_sep = p->variant[0] ? "/" : "";
	if (p->os_version[0])
		return bxc_str_fmt("%s(%s)%s%s%s%s", p->os, p->os_version, arch_sep, p->arch,
			variant_sep, p->variant);
	return bxc_str_fmt("%s%s%s%s%s", p->os, arch_sep, p->arch, variant_sep, p->variant);
}

bool bxc_platform_eq(const bxc_platform *a, const bxc_platform *b)
{
	bxc_platform x = bxc_platform_normalize(*a), y = bxc_platform_normalize(*b);
	return strcmp(x.os, y.os) == 0 && strcmp(x.arch, y.arch) == 0 &&
	       strcmp(x.variant, y.variant) == 0 && strcmp(x.os_version, y.os_version) == 0;
}

/* "v8.2" as major and minor; false for another form. */
static bool variant_number(const char *v, int *ret_major, int *ret_minor)
{
	if (v[0] != 'v' || v[1] < '1' || v[1] > '9')
		return false;
	*ret_major = v[1] - '0';
	*ret_minor = 0;
	if (!v[2])
		return true;
	if (v[2] != '.' || v[3] < '0' || v[3] > '9' || v[4])
		return false;
	*ret_minor = v[3] - '0';
	return true;
}

/* How many steps `have` lies below `want`; -1: it does not run there. */
static int variant_distance(const char *arch, const char *want, const char *have)
{
	bool arm64 = strcmp(arch, "arm64") == 0, arm = strcmp(arch, "arm") == 0;
	if (strcmp(want, have) == 0)
		return 0;
	if (!arm64 && !arm && strcmp(arch, "amd64") != 0)
		return -1;
	const char *base = arm64 ? "v8" : arm ? "v7" : "v1";
	int wmaj, wmin, hmaj, hmin;
	if (!variant_number(want[0] ? want : base, &wmaj, &wmin) ||
		!variant_number(have[0] ? have : base, &hmaj, &hmin))
		return -1;
	if (arm64) {
		/* v9.x is v8.(x+5) and more. */
		int w = wmaj * 10 + wmin, h = hmaj * 10 + hmin;
		if (wmaj == 9 && hmaj == 8)
			return hmin <= wmin + 5 ? 10 + wmin + 5 - hmin : -1;
		return wmaj == hmaj && h <= w ? w - h : -1;
	}
	if (wmin || hmin || hmaj > wmaj || (arm && hmaj < 5))
		return -1;
	return wmaj - hmaj;
}

int bxc_platform_match(const bxc_platform *want, const bxc_platform *have)
{
	bxc_platform w = bxc_platform_normalize(*want), h = bxc_platform_normalize(*have);
	if (strcmp(w.os, h.os) != 0 || strcmp(w.arch, h.arch) != 0)
		return -1;
	if (w.os_version[0] && h.os_version[0] && strcmp(w.os_version, h.os_version) != 0)
		return -1;
	int d = variant_distance(w.arch, w.variant, h.variant);
	return d < 0 ? -1 : 100 - d;
}

void oci_platform_to_json(const bxc_platform *p, bxc_json *obj)
{
	bxc_json_set_str(obj, "architecture", p->arch);
	bxc_json_set_str(obj, "os", p->os);
	oci_set_str(obj, "os.version", p->os_version);
	oci_set_str(obj, "variant", p->variant);
}

int oci_platform_from_json(const bxc_json *obj, bxc_platform *ret, bxc_err **err)
{
	bxc_platform p = {0};
	const struct {
		const char *key;
		char *dst;
		size_t cap;
	} fields[] = {{"os", p.os, sizeof(p.os)}, {"architecture", p.arch, sizeof(p.arch)},
		{"variant", p.variant, sizeof(p.variant)},
		{"os.version", p.os_version, sizeof(p.os_version)}};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(fields); i++) {
		BXC_AUTOFREE char *s = NULL;
		int r = oci_opt_str(obj, fields[i].key, &s, err);
		if (r < 0)
			return r;
		if (s && strlen(s) >= fields[i].cap)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"field '%s' is longer than %zu bytes", fields[i].key,
				fields[i].cap - 1);
		if (s)
			set(fields[i].dst, fields[i].cap, s);
	}
	*ret = p;
	return 0;
}
