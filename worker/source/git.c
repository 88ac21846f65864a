/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Git repositories. One bare copy of each is kept, into which single commits are fetched; a
 * checkout is made beside it and moved into the layer. What is checked out is as everywhere: files
 * 0644 or 0755, folders 0755, of root.
 */
#include "worker/source/git_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/codec/digest.h"
#include "common/os/fs.h"

#define OUT_MAX (64u << 20)

static int git_open(
	git *g, bxc_src *s, const bxc_op_source *op, const bxc_src_client *c, bxc_err **err)
{
	g->s = s;
	g->client = c;
	int r = bxc_git_ref_from_source(op->identifier, op->attrs, &g->ref, err);
	if (r < 0)
		return r;
	char digest[BXC_DIGEST_STR_MAX];
	bxc_digest d = bxc_digest_of(g->ref.remote, strlen(g->ref.remote));
	g->bare = bxc_str_fmt("%s/%.32s.git", s->dir, strchr(bxc_digest_str(&d, digest), ':') + 1);
	g->shown = bxc_remote_redact(g->ref.remote);
	bool is_ssh = !bxc_remote_is_http(g->ref.remote) &&
		      !bxc_str_has_prefix(g->ref.remote, "git://");
	return is_ssh ? git_agent_open(g, &g->agent, err) : 0;
}

static void git_close(git *g)
{
	git_agent_free(g->agent);
	bxc_git_ref_done(&g->ref);
	bxc_secret_free(g->auth);
	free(g->bare);
	free(g->shown);
}

/* ---- what a ref stands for ---- */

struct found {
	char *commit;
	char *ref;
};

static void found_done(struct found *f)
{
	free(f->commit);
	free(f->ref);
}

/* The object of the line "<object>\t<name>" with this name, owned; NULL: there is none. */
static char *object_of(const char *list, const char *name)
{
	size_t n = strlen(name);
	for (const char *line = list; *line; line = strchrnul(line, '\n'), line += *line != 0) {
		size_t len = strcspn(line, "\n"), tab = strcspn(line, "\t\n");
		if (len == tab + 1 + n && memcmp(line + tab + 1, name, n) == 0) {
			BXC_AUTOFREE char *id = bxc_strndup(line, tab);
			return bxc_git_is_commit(id) ? BXC_TAKE(id) : NULL;
		}
	}
	return NULL;
}

/* A tag of its own stands for what it points to. */
static bool take_ref(const char *list, const char *prefix, const char *ref, struct found *ret)
{
	BXC_AUTOFREE char *name = bxc_str_fmt("%s%s", prefix, ref);
	BXC_AUTOFREE char *peeled = bxc_str_fmt("%s^{}", name);
	char *id = object_of(list, peeled);
	ret->commit = id ? id : object_of(list, name);
	if (!ret->commit)
		return false;
	ret->ref = BXC_TAKE(name);
	return true;
}

/* A branch before a tag, as git checkout has it; then the name as it is. */
static int ask_remote(git *g, struct found *ret, bxc_err **err)
{
	const char *ref = g->ref.ref ? g->ref.ref : "HEAD";
	BXC_AUTOFREE char *peeled = bxc_str_fmt("%s^{}", ref);
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(OUT_MAX);
	git_run run = {.args = git_args("ls-remote", "--", g->ref.remote, ref, peeled),
		.cwd = "/",
		.with_auth = true};
	int r = git_exec(g, &run, &out, NULL, err);
	if (r < 0)
		return r;
	const char *list = bxc_buf_text(&out);
	bool ok = (g->ref.ref && (take_ref(list, "refs/heads/", ref, ret) ||
					 take_ref(list, "refs/tags/", ref, ret))) ||
		  take_ref(list, "", ref, ret);
	if (!ok)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION,
			"repository %s does not contain ref %s", g->shown, ref);
	return 0;
}

static int check_sum(const git *g, const char *commit, bxc_err **err)
{
	const char *want = g->ref.checksum;
	if (!want || bxc_str_has_prefix(commit, want))
		return 0;
	return bxc_err_set(err, BXC_FAILED_PRECONDITION,
		"%s: expected checksum to match %s, got %s", g->shown, want, commit);
}

static int find(git *g, struct found *ret, bxc_err **err)
{
	int r = 0;
	if (g->ref.commit)
		ret->commit = bxc_strdup(g->ref.commit);
	else if (g->ref.by_commit)
		ret->commit = bxc_strdup(g->ref.checksum);
	else if (bxc_git_is_commit(g->ref.ref))
		ret->commit = bxc_strdup(g->ref.ref);
	else
		r = ask_remote(g, ret, err);
	return r < 0 ? r : check_sum(g, ret->commit, err);
}

/* ---- fetching ---- */

static int in_bare(git *g, char **args_take, bxc_buf *out, bool *ret_ok, bxc_err **err)
{
	git_run run = {
		.args = args_take, .cwd = g->bare, .with_auth = true, .may_fail = ret_ok != NULL};
	return git_exec(g, &run, out, ret_ok, err);
}

static int has_commit(git *g, const char *commit, bool *ret, bxc_err **err)
{
	BXC_AUTOFREE char *name = bxc_str_fmt("%s^{commit}", commit);
	return in_bare(g, git_args("cat-file", "-e", name), NULL, ret, err);
}

/* The names that a repository's objects have. */
static const char *format_of(const char *commit)
{
	return strlen(commit) == 64 ? "--object-format=sha256" : "--object-format=sha1";
}

static int make_bare(git *g, const char *commit, bxc_err **err)
{
	BXC_AUTOFREE char *head = bxc_str_fmt("%s/HEAD", g->bare),
			  *lock = bxc_str_fmt("%s/shallow.lock", g->bare);
	struct stat st;
	if (stat(head, &st) == 0) {
		/* Left by a fetch that was killed; nobody else works here. */
		unlink(lock);
		return 0;
	}
	git_run run = {.args = git_args("init", "-q", "--bare", "--template=", format_of(commit),
			       "--", g->bare),
		.cwd = "/"};
	return git_exec(g, &run, NULL, NULL, err);
}

/* Cheapest first: the ref alone, the commit by its name, all there is. */
static int fetch(git *g, const char *commit, const char *ref, bxc_err **err)
{
	bool there = false, ok = false;
	int r = make_bare(g, commit, err);
	if (r >= 0)
		r = has_commit(g, commit, &there, err);
	BXC_AUTOFREE char *own = bxc_str_fmt("refs/bxc/%s", commit);
	if (r >= 0 && !there && ref) {
		BXC_AUTOFREE char *spec = bxc_str_fmt("+%s:%s", ref, own);
		r = in_bare(g,
			git_args(
				"fetch", "-q", "--depth=1", "--no-tags", "--", g->ref.remote, spec),
			NULL, NULL, err);
		if (r >= 0)
			r = has_commit(g, commit, &there, err);
	}
	if (r >= 0 && !there) {
		BXC_AUTOFREE char *spec = bxc_str_fmt("+%s:%s", commit, own);
		r = in_bare(g,
			git_args(
				"fetch", "-q", "--depth=1", "--no-tags", "--", g->ref.remote, spec),
			NULL, &ok, err);
		if (r >= 0)
			r = has_commit(g, commit, &there, err);
	}
	if (r >= 0 && !there) {
		BXC_AUTOFREE char *shallow = bxc_str_fmt("%s/shallow", g->bare);
		struct stat st;
		const char *depth =
			stat(shallow, &st) == 0 ? "--unshallow" : "--no-auto-maintenance";
		r = in_bare(g,
			git_args("fetch", "-q", depth, "--no-tags", "--", g->ref.remote,
				"+refs/*:refs/bxc/all/*"),
			NULL, NULL, err);
		if (r >= 0)
			r = has_commit(g, commit, &there, err);
	}
	if (r >= 0 && !there)
		r = bxc_err_set(err, BXC_FAILED_PRECONDITION,
			"repository %s does not contain commit %s", g->shown, commit);
	return r < 0 ? r : in_bare(g, git_args("update-ref", own, commit), NULL, NULL, err);
}

static int time_of(git *g, const char *commit, int64_t *ret_ns, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(4096);
	int r = in_bare(g, git_args("show", "-s", "--no-show-signature", "--format=%ct", commit),
		&out, NULL, err);
	if (r < 0)
		return r;
	BXC_AUTOFREE char *text = bxc_buf_steal(&out);
	int64_t s = 0;
	r = bxc_str_to_i64(bxc_str_trim(text), 0, INT64_MAX / BXC_NS_PER_S, &s, err);
	*ret_ns = s * BXC_NS_PER_S;
	return bxc_err_wrap(err, r, "time of commit %s", commit);
}

int src_git_resolve(bxc_src *s, const bxc_op_source *op, bool want_time, const bxc_src_client *c,
	bxc_src_pin *ret, bxc_err **err)
{
	BXC_CLEANUP(git_close) git g = {0};
	BXC_CLEANUP(found_done) struct found f = {0};
	int64_t time_ns = INT64_MIN;
	int r = git_open(&g, s, op, c, err);
	if (r >= 0)
		r = find(&g, &f, err);
	if (r >= 0 && want_time) {
		src_claim(s, g.bare);
		r = fetch(&g, f.commit, f.ref, err);
		if (r >= 0)
			r = time_of(&g, f.commit, &time_ns, err);
		src_release(s, g.bare);
	}
	if (r < 0)
		return r;
	*ret = (bxc_src_pin){.id = BXC_TAKE(f.commit), .ref = BXC_TAKE(f.ref), .time_ns = time_ns};
	return 0;
}

/* ---- the files ---- */

/* Modes as git means them whatever the umask was, times if asked; ".git" below the top goes with
 * drop_git. */
static int tidy(int dir_fd, unsigned depth, int64_t time_ns, bool drop_git, bxc_err **err)
{
	BXC_AUTOSTRV char **names = NULL;
	if (depth > BXC_LIMIT_TREE_DEPTH)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "folders are nested deeper than %u",
			BXC_LIMIT_TREE_DEPTH);
	int r = bxc_fs_list_dir(dir_fd, "", BXC_LIMIT_TREE_ENTRIES, &names, err);
	for (char **n = names; r >= 0 && *n; n++) {
		struct stat st;
		if (drop_git && bxc_str_eq(*n, ".git")) {
			r = bxc_fs_rmtree(dir_fd, *n, err);
			continue;
		}
		r = bxc_fs_lstat(dir_fd, *n, &st, err);
		if (r < 0)
			break;
		if (S_ISDIR(st.st_mode)) {
			BXC_AUTOCLOSE int fd = -1;
			r = bxc_fs_open_beneath(
				dir_fd, *n, O_RDONLY | O_DIRECTORY, 0, BXC_FS_NO_LINKS, &fd, err);
			if (r >= 0)
				r = tidy(fd, depth + 1, time_ns, drop_git, err);
		}
		mode_t mode = st.st_mode & 0755;
		if (r >= 0 && !S_ISLNK(st.st_mode) && fchmodat(dir_fd, *n, mode, 0) < 0)
			r = bxc_err_errno(err, errno, "mode of '%s'", *n);
		const struct timespec t[2] = {
			{time_ns / BXC_NS_PER_S, 0}, {time_ns / BXC_NS_PER_S, 0}};
		if (r >= 0 && time_ns != INT64_MIN &&
			utimensat(dir_fd, *n, t, AT_SYMLINK_NOFOLLOW) < 0)
			r = bxc_err_errno(err, errno, "times of '%s'", *n);
	}
	return r;
}

static int in_work(
	git *g, const char *work, char **args_take, char *const *env, bool local, bxc_err **err)
{
	git_run run = {.args = args_take,
		.env = bxc_strv_dup(env),
		.cwd = work,
		.local = local,
		.with_auth = !local};
	return git_exec(g, &run, NULL, NULL, err);
}

static int update_modules(
	git *g, const char *work, int work_fd, char *const *env, bool *ret_any, bxc_err **err)
{
	struct stat st;
	*ret_any = false;
	if (g->ref.submodules == BXC_GIT_NO)
		return 0;
	int r = bxc_fs_lstat_opt(work_fd, ".gitmodules", &st, err);
	if (r <= 0 || !S_ISREG(st.st_mode))
		return r < 0 ? r : 0;
	*ret_any = true;
	return in_work(g, work,
		git_args("submodule", "-q", "update", "--init", "--recursive", "--depth=1"), env,
		false, err);
}

/* A work tree with a repository of its own, which holds the commit alone or looks into our copy. */
static int check_out(git *g, const char *commit, const char *ref, const char *work, int work_fd,
	bool keep, bxc_err **err)
{
	BXC_AUTOSTRV char **env = NULL;
	BXC_AUTOFREE char *bare_url = bxc_str_fmt("file://%s", g->bare);
	BXC_AUTOFREE char *spec = bxc_str_fmt("+refs/bxc/%s:%s", commit,
		ref && bxc_str_has_prefix(ref, "refs/") ? ref : "refs/bxc/head");
	bool modules = false;
	int64_t time_ns = INT64_MIN;
	if (!keep)
		bxc_strv_pushf(&env, "GIT_ALTERNATE_OBJECT_DIRECTORIES=%s/objects", g->bare);
	int r = in_work(
		g, work, git_args("init", "-q", "--template=", format_of(commit)), env, true, err);
	if (r >= 0)
		r = in_work(g, work, git_args("remote", "add", "origin", "--", g->ref.remote), env,
			true, err);
	if (r >= 0 && keep)
		r = in_work(g, work,
			git_args("fetch", "-q", "--depth=1", "--no-tags", "--update-head-ok", "--",
				bare_url, spec),
			env, true, err);
	if (r >= 0 && keep)
		r = in_work(
			g, work, git_args("checkout", "-q", "--detach", commit), env, true, err);
	else if (r >= 0)
		r = in_work(
			g, work, git_args("read-tree", "--reset", "-u", commit), env, true, err);
	if (r >= 0)
		r = update_modules(g, work, work_fd, env, &modules, err);
	if (r >= 0 && g->ref.mtime_of_commit)
		r = time_of(g, commit, &time_ns, err);
	if (r < 0)
		return r;
	if (keep) {
		r = in_work(g, work, git_args("remote", "set-url", "origin", "--", g->shown), env,
			true, err);
		if (r >= 0)
			r = in_work(g, work, git_args("reflog", "expire", "--all", "--expire=now"),
				env, true, err);
		if (r >= 0)
			r = bxc_fs_unlink(work_fd, ".git/FETCH_HEAD", err);
	} else {
		r = bxc_fs_rmtree(work_fd, ".git", err);
	}
	return r < 0 ? r : tidy(work_fd, 0, time_ns, modules && !keep, err);
}

static int move_all(int from_fd, int to_fd, bxc_err **err)
{
	BXC_AUTOSTRV char **names = NULL;
	int r = bxc_fs_list_dir(from_fd, "", BXC_LIMIT_TREE_ENTRIES, &names, err);
	for (char **n = names; r >= 0 && *n; n++)
		r = bxc_fs_rename(from_fd, *n, to_fd, *n, true, err);
	return r;
}

static int take_subdir(const git *g, int work_fd, int dir_fd, bxc_err **err)
{
	BXC_AUTOCLOSE int fd = -1;
	BXC_AUTOERR bxc_err *why = NULL;
	if (!g->ref.subdir)
		return move_all(work_fd, dir_fd, err);
	/* Links on the way stay within the checkout. */
	int r = bxc_fs_open_beneath(
		work_fd, g->ref.subdir, O_RDONLY | O_DIRECTORY, 0, BXC_FS_IN_ROOT, &fd, &why);
	if (r < 0)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION, "subdir %s of %s: %s",
			g->ref.subdir, g->shown,
			r == -BXC_NOT_FOUND ? "not found" : "not a directory");
	return move_all(fd, dir_fd, err);
}

int src_git_write(bxc_src *s, const bxc_op_source *op, const bxc_src_pin *pin,
	const bxc_src_client *c, int dir_fd, bxc_err **err)
{
	BXC_CLEANUP(git_close) git g = {0};
	BXC_AUTOSTAGING bxc_snap_staging *scratch = NULL;
	BXC_AUTOCLOSE int work_fd = -1;
	int r = git_open(&g, s, op, c, err);
	if (r >= 0 && !bxc_git_is_commit(pin->id))
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "pin: no name of a commit");
	if (r >= 0)
		r = check_sum(&g, pin->id, err);
	if (r >= 0)
		r = bxc_snap_begin(s->snap, NULL, &scratch, err);
	if (r >= 0)
		r = bxc_fs_make_dirs(bxc_snap_staging_fd(scratch), "work", 0755, err);
	if (r >= 0)
		r = bxc_fs_open_dir(bxc_snap_staging_fd(scratch), "work", &work_fd, err);
	if (r < 0)
		return r;
	BXC_AUTOFREE char *work = bxc_str_fmt("/proc/%d/fd/%d", (int)getpid(), work_fd);
	bool keep = g.ref.keep_git_dir == BXC_GIT_YES && !g.ref.subdir;
	src_claim(s, g.bare);
	r = fetch(&g, pin->id, pin->ref, err);
	if (r >= 0)
		r = check_out(&g, pin->id, pin->ref, work, work_fd, keep, err);
	src_release(s, g.bare);
	return r < 0 ? r : take_subdir(&g, work_fd, dir_fd, err);
}
