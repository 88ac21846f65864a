/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OCI runtime configuration of a step (runtime-spec 1.0.2): what BuildKit's executor/oci and
 * containerd's defaults make of it.
 */
#include <ctype.h>
#include <errno.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/base/str.h"
#include "worker/exec/exec_internal.h"

#define DEFAULT_SHM_BYTES (UINT64_C(64) << 20)

static const char *const capabilities[] = {"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID",
	"CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP",
	"CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"};

/* By number, from linux/capability.h. An insecure step gets those of them that we have. */
static const char *const all_capabilities[] = {"CAP_CHOWN", "CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST",
	"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE",
	"CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN",
	"CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG",
	"CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP",
	"CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"};

/* Given to an insecure step where this host has them. */
static const char *const insecure_devices[] = {"/dev/kmsg", "/dev/fuse", "/dev/kvm", "/dev/net/tun",
	"/dev/loop-control", "/dev/loop0", "/dev/loop1", "/dev/loop2", "/dev/loop3", "/dev/loop4",
	"/dev/loop5", "/dev/loop6", "/dev/loop7"};

static const char *const masked_paths[] = {"/proc/acpi", "/proc/asound", "/proc/interrupts",
	"/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
	"/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"};

static const char *const readonly_paths[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};

/*
 * System calls that Docker's default profile refuses without further capabilities. As a list of
 * what is refused: the kernel loads it in a tenth of the time of the list of what is allowed.
 */
static const char *const refused_calls[] = {"acct", "add_key", "bpf", "clock_adjtime",
	"clock_adjtime64", "clock_settime", "clock_settime64", "delete_module", "fanotify_init",
	"finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "init_module", "io_uring_enter",
	"io_uring_register", "io_uring_setup", "ioperm", "iopl", "kexec_file_load", "kexec_load",
	"keyctl", "lookup_dcookie", "mount", "mount_setattr", "move_mount", "nfsservctl",
	"open_by_handle_at", "open_tree", "perf_event_open", "pivot_root", "quotactl",
	"quotactl_fd", "reboot", "request_key", "setdomainname", "sethostname", "setns",
	"settimeofday", "stime", "swapoff", "swapon", "syslog", "umount", "umount2", "unshare",
	"uselib", "userfaultfd", "vhangup", "vm86", "vm86old"};

const char *const bxc_exec__default_dests[] = {
	"/proc", "/dev", "/sys", "/etc/resolv.conf", "/etc/hosts", NULL};

static void add_strings(bxc_json *obj, const char *key, const char *const *v, size_t n)
{
	bxc_json *a = bxc_json_add_array(obj, key);
	for (size_t i = 0; i < n; i++)
		bxc_json_push_str(a, v[i]);
}

static const char *hostname(const bxc_op_exec *op)
{
	return bxc_str_empty(op->hostname) ? "buildkitsandbox" : op->hostname;
}

char *bxc_exec__cwd(const bxc_op_exec *op)
{
	if (bxc_str_empty(op->cwd))
		return bxc_strdup("/");
	return *op->cwd == '/' ? bxc_strdup(op->cwd) : bxc_str_fmt("/%s", op->cwd);
}

char *bxc_exec__hosts(const bxc_op_exec *op)
{
	bxc_buf b = BXC_BUF_INIT(16u << 20);
	bxc_buf_addf(&b, "127.0.0.1\tlocalhost %s\n::1\tlocalhost ip6-localhost ip6-loopback\n",
		hostname(op));
	for (char **h = op->extra_hosts; h && *h; h++) {
		const char *eq = strchr(*h, '=');
		/* Steps use the network of this host. */
		const char *ip = eq && bxc_str_eq(eq + 1, "host-gateway") ? "127.0.0.1" : NULL;
		if (eq)
			bxc_buf_addf(&b, "%s\t%.*s\n", ip ? ip : eq + 1, (int)(eq - *h), *h);
	}
	return bxc_buf_steal(&b);
}

char *bxc_exec__quote(const char *s)
{
	bxc_buf b = BXC_BUF_INIT(64u << 20);
	bxc_buf_addc(&b, '"');
	for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
		static const char short_forms[] = "\aa\bb\ff\nn\rr\tt\vv\"\"\\\\";
		const char *f = NULL;
		for (size_t i = 0; i + 1 < sizeof(short_forms); i += 2)
			if ((unsigned char)short_forms[i] == *p)
				f = &short_forms[i + 1];
		if (f)
			bxc_buf_addf(&b, "\\%c", *f);
		else if (*p < 0x20 || *p == 0x7f)
			bxc_buf_addf(&b, "\\x%02x", *p);
		else
			bxc_buf_addc(&b, (char)*p);
	}
	bxc_buf_addc(&b, '"');
	return bxc_buf_steal(&b);
}

/* ---- process ---- */

static bool is_secret(const bxc_exec__spec *s, const char *entry)
{
	for (size_t i = 0; i < s->n_env; i++) {
		size_t n = strlen(s->env[i].name);
		if (strncmp(entry, s->env[i].name, n) == 0 && entry[n] == '=')
			return true;
	}
	return false;
}

static void add_env(bxc_json *process, const bxc_exec__spec *s)
{
	const bxc_op_exec *op = s->op;
	bxc_json *env = bxc_json_add_array(process, "env");
	if (!bxc_env_get(op->env, "PATH"))
		bxc_json_push_str(env, BXC_EXEC__PATH_ENV);
	for (char **e = op->env; e && *e; e++)
		if (!is_secret(s, *e))
			bxc_json_push_str(env, *e);
	for (char **e = op->proxy_env; e && *e; e++) {
		BXC_AUTOFREE char *key = bxc_strndup(*e, strcspn(*e, "="));
		if (!bxc_env_get(op->env, key))
			bxc_json_push_str(env, *e);
	}
	for (size_t i = 0; i < s->n_env; i++) {
		BXC_AUTOFREE char *entry = bxc_str_fmt("%s=%s", s->env[i].name, s->env[i].marker);
		bxc_json_push_str(env, entry);
	}
}

/* "nofile=1024:2048" */
static int add_rlimits(bxc_json *process, char *const *ulimits, bxc_err **err)
{
	if (!ulimits || !*ulimits)
		return 0;
	bxc_json *list = bxc_json_add_array(process, "rlimits");
	for (char *const *u = ulimits; *u; u++) {
		BXC_AUTOFREE char *text = bxc_strdup(*u);
		char *eq = strchr(text, '=');
		int64_t soft = 0, hard = 0;
		if (!eq)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid ulimit '%s'", *u);
		*eq = '\0';
		char *colon = strchr(eq + 1, ':');
		if (colon)
			*colon = '\0';
		/* -1: no limit. */
		int r = bxc_str_to_i64(eq + 1, -1, INT64_MAX, &soft, NULL);
		if (r == 0)
			r = bxc_str_to_i64(colon ? colon + 1 : eq + 1, -1, INT64_MAX, &hard, NULL);
		for (char *p = text; r == 0 && *p; p++)
			r = islower((unsigned char)*p) ? 0 : -BXC_INVALID_ARGUMENT;
		if (r < 0 || !*text)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid ulimit '%s'", *u);
		BXC_AUTOFREE char *type = bxc_str_fmt("RLIMIT_%s", bxc_str_upper(text));
		bxc_json *l = bxc_json_push_object(list);
		bxc_json_set_str(l, "type", type);
		/* crun takes numbers only, and all of 64 bits do not fit one: what is beyond 2^53
		 * is no limit. */
		int64_t most = INT64_C(1) << 53;
		bxc_json_set_i64(l, "soft", soft < 0 ? most : BXC_MIN(soft, most));
		bxc_json_set_i64(l, "hard", hard < 0 ? most : BXC_MIN(hard, most));
	}
	return 0;
}

static int add_process(bxc_json *j, const bxc_exec__spec *s, bxc_err **err)
{
	static const char *const sets[] = {"bounding", "effective", "permitted"};
	bxc_json *p = bxc_json_add_object(j, "process");
	bxc_json_set_bool(p, "terminal", false);
	bxc_json *user = bxc_json_add_object(p, "user");
	bxc_json_set_i64(user, "uid", s->user->uid);
	bxc_json_set_i64(user, "gid", s->user->gid);
	bxc_json *groups = bxc_json_add_array(user, "additionalGids");
	for (size_t i = 0; i < s->user->groups.n; i++)
		bxc_json_push_take(groups, bxc_json_new_i64(s->user->groups.v[i]));
	bxc_json_set_strv(p, "args", s->op->args);
	add_env(p, s);
	BXC_AUTOFREE char *cwd = bxc_exec__cwd(s->op);
	bxc_json_set_str(p, "cwd", cwd);
	bxc_json *caps = bxc_json_add_object(p, "capabilities");
	const char *own[BXC_ARRAY_SIZE(all_capabilities)];
	size_t n_own = 0;
	for (size_t i = 0; s->op->insecure && i < BXC_ARRAY_SIZE(all_capabilities); i++)
		if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1)
			own[n_own++] = all_capabilities[i];
	for (size_t i = 0; i < BXC_ARRAY_SIZE(sets); i++) {
		if (s->op->insecure)
			add_strings(caps, sets[i], own, n_own);
		else
			add_strings(caps, sets[i], capabilities, BXC_ARRAY_SIZE(capabilities));
	}
	bxc_json_set_bool(p, "noNewPrivileges", false);
	return add_rlimits(p, s->op->ulimits, err);
}

/* ---- mounts ---- */

static void put_mount(bxc_json *list, const char *dest, const char *type, const char *source,
	char *const *options)
{
	bxc_json *m = bxc_json_push_object(list);
	bxc_json_set_str(m, "destination", dest);
	bxc_json_set_str(m, "type", type);
	bxc_json_set_str(m, "source", source);
	bxc_json_set_strv(m, "options", options);
}

static void add_mount(
	bxc_json *list, const char *dest, const char *type, const char *source, const char *options)
{
	BXC_AUTOSTRV char **v = bxc_strv_split(options, ',');
	put_mount(list, dest, type, source, v);
}

static void add_mounts(bxc_json *j, const bxc_exec__spec *s)
{
	bxc_json *l = bxc_json_add_array(j, "mounts");
	BXC_AUTOFREE char *shm = bxc_str_fmt("nosuid,noexec,nodev,mode=1777,size=%llu",
		(unsigned long long)(s->op->shm_size ? s->op->shm_size : DEFAULT_SHM_BYTES));
	add_mount(l, "/proc", "proc", "proc", "nosuid,noexec,nodev");
	add_mount(l, "/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k");
	add_mount(l, "/dev/pts", "devpts", "devpts",
		"nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5");
	add_mount(l, "/dev/shm", "tmpfs", "shm", shm);
	add_mount(l, "/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev");
	const char *ro = s->op->insecure ? "rw" : "ro";
	BXC_AUTOFREE char *sys = bxc_str_fmt("nosuid,noexec,nodev,%s", ro);
	BXC_AUTOFREE char *cgroup = bxc_str_fmt("nosuid,noexec,nodev,relatime,%s", ro);
	add_mount(l, "/sys", "sysfs", "sysfs", sys);
	add_mount(l, "/sys/fs/cgroup", "cgroup", "cgroup", cgroup);
	add_mount(l, "/etc/resolv.conf", "bind", s->resolv_conf, "bind,ro,rprivate");
	add_mount(l, "/etc/hosts", "bind", s->hosts, "bind,ro,rprivate");
	for (size_t i = 0; i < s->n_mounts; i++) {
		const bxc_exec__mount *m = &s->mounts[i];
		put_mount(l, m->dest, m->type, m->source, m->options);
	}
}

/* ---- linux ---- */

static bxc_json *refuse(bxc_json *calls, const char *const *names, size_t n, int errnum)
{
	bxc_json *rule = bxc_json_push_object(calls);
	add_strings(rule, "names", names, n);
	bxc_json_set_str(rule, "action", "SCMP_ACT_ERRNO");
	bxc_json_set_i64(rule, "errnoRet", errnum);
	return rule;
}

static void add_seccomp(bxc_json *l)
{
	static const char *const clone_name[] = {"clone"}, *const clone3_name[] = {"clone3"};
	bxc_json *sc = bxc_json_add_object(l, "seccomp");
	bxc_json_set_str(sc, "defaultAction", "SCMP_ACT_ALLOW");
	bxc_json *arches = bxc_json_add_array(sc, "architectures");
#if defined(__x86_64__)
	bxc_json_push_str(arches, "SCMP_ARCH_X86_64");
	bxc_json_push_str(arches, "SCMP_ARCH_X86");
	bxc_json_push_str(arches, "SCMP_ARCH_X32");
#elif defined(__aarch64__)
	bxc_json_push_str(arches, "SCMP_ARCH_AARCH64");
	bxc_json_push_str(arches, "SCMP_ARCH_ARM");
#endif
	bxc_json *calls = bxc_json_add_array(sc, "syscalls");
	refuse(calls, refused_calls, BXC_ARRAY_SIZE(refused_calls), EPERM);
	/* New user namespaces open much of the kernel. Flags of clone3 lie in memory, out of reach
	 * of a filter; with ENOSYS libraries fall back to clone. */
	bxc_json *clone = refuse(calls, clone_name, 1, EPERM);
	bxc_json *arg = bxc_json_push_object(bxc_json_add_array(clone, "args"));
	bxc_json_set_i64(arg, "index", 0);
	bxc_json_set_i64(arg, "value", 0x10000000);
	bxc_json_set_i64(arg, "valueTwo", 0x10000000);
	bxc_json_set_str(arg, "op", "SCMP_CMP_MASKED_EQ");
	refuse(calls, clone3_name, 1, ENOSYS);
}

static void add_devices(bxc_json *l)
{
	bxc_json *list = bxc_json_add_array(l, "devices");
	for (size_t i = 0; i < BXC_ARRAY_SIZE(insecure_devices); i++) {
		struct stat st;
		if (stat(insecure_devices[i], &st) < 0 ||
			!(S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)))
			continue;
		bxc_json *d = bxc_json_push_object(list);
		bxc_json_set_str(d, "path", insecure_devices[i]);
		bxc_json_set_str(d, "type", S_ISCHR(st.st_mode) ? "c" : "b");
		bxc_json_set_i64(d, "major", major(st.st_rdev));
		bxc_json_set_i64(d, "minor", minor(st.st_rdev));
		bxc_json_set_i64(d, "fileMode", st.st_mode & 0777);
	}
}

static void add_linux(bxc_json *j, const bxc_op_exec *op)
{
	static const char *const spaces[] = {"pid", "ipc", "uts", "mount", "cgroup"};
	bxc_json *l = bxc_json_add_object(j, "linux");
	bxc_json *ns = bxc_json_add_array(l, "namespaces");
	for (size_t i = 0; i < BXC_ARRAY_SIZE(spaces); i++)
		bxc_json_set_str(bxc_json_push_object(ns), "type", spaces[i]);
	if (op->net == BXC_NET_NONE)
		bxc_json_set_str(bxc_json_push_object(ns), "type", "network");
	if (op->insecure) {
		add_devices(l);
		return;
	}
	add_seccomp(l);
	add_strings(l, "maskedPaths", masked_paths, BXC_ARRAY_SIZE(masked_paths));
	add_strings(l, "readonlyPaths", readonly_paths, BXC_ARRAY_SIZE(readonly_paths));
}

int bxc_exec__spec_json(const bxc_exec__spec *s, bxc_json **ret, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "ociVersion", "1.0.2");
	int r = add_process(j, s, err);
	if (r < 0)
		return r;
	bxc_json *root = bxc_json_add_object(j, "root");
	bxc_json_set_str(root, "path", s->rootfs);
	bxc_json_set_bool(root, "readonly", s->op->mounts.n > 0 && s->op->mounts.v[0].readonly);
	bxc_json_set_str(j, "hostname", hostname(s->op));
	add_mounts(j, s);
	add_linux(j, s->op);
	*ret = BXC_TAKE(j);
	return 0;
}
