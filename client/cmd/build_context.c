/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a build is made from: the context in all its forms, the Dockerfile, named contexts. A folder
 * is served from here; what lies elsewhere is only named, and the cluster gets it.
 */
#include "client/cmd/cmd_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/base64.h"
#include "common/codec/digest.h"
#include "common/oci/oci.h"
#include "common/os/fd.h"
#include "common/os/fs.h"
#include "common/remote/remote.h"
#include "common/tar/tar.h"

#define SNIFF_BYTES 4096u
#define CHUNK	    (256u << 10)
#define SPOOL_MAX   (UINT64_C(64) << 30) /* bytes of an archive on standard input */

void plan_context_done(build_plan *p)
{
	BXC_ARR_FOREACH (d, &p->dirs) {
		free((void *)(uintptr_t)d->name);
		free((void *)(uintptr_t)d->path);
		bxc_ignore_free((bxc_ignore *)(uintptr_t)d->ignore);
	}
	bxc_arr_done(&p->dirs);
	BXC_ARR_FOREACH (l, &p->layouts) {
		free((void *)(uintptr_t)l->name);
		free((void *)(uintptr_t)l->path);
	}
	bxc_arr_done(&p->layouts);
	if (p->has_upload)
		close(p->upload.fd);
	free(p->dockerfile_name);
	bxc_buf_done(&p->dockerfile);
}

static bxc_csess_dir *add_dir(build_plan *p, const char *name, const char *path)
{
	bxc_csess_dir *d = bxc_arr_push(&p->dirs);
	*d = (bxc_csess_dir){.name = bxc_strdup(name), .path = bxc_strdup(path)};
	return d;
}

/* ---- files ---- */

static int read_optional(const char *path, size_t max, bxc_buf *ret, bxc_err **err)
{
	bxc_err *e = NULL;
	int r = bxc_fs_read_file(AT_FDCWD, path, max, ret, &e);
	if (r == -BXC_NOT_FOUND) {
		bxc_err_free(e);
		return 0;
	}
	if (r < 0)
		return bxc_err_wrap_take(err, e, r, "'%s'", path);
	return 1;
}

static int read_dockerfile(
	build_plan *p, const char *dir, const char *given, char **ret_path, bxc_err **err)
{
	BXC_AUTOFREE char *path = given ? bxc_strdup(given) : bxc_str_fmt("%s/Dockerfile", dir);
	int r = read_optional(path, BXC_LIMIT_DOCKERFILE, &p->dockerfile, err);
	/* As buildx: a relative name may also be meant within the context, and "dockerfile" is a
	 * second default. */
	if (r == 0 && dir) {
		BXC_AUTOFREE char *other =
			given ? (given[0] == '/' ? NULL : bxc_str_fmt("%s/%s", dir, given))
			      : bxc_str_fmt("%s/dockerfile", dir);
		if (other)
			r = read_optional(other, BXC_LIMIT_DOCKERFILE, &p->dockerfile, err);
		if (r > 0) {
			free(path);
			path = BXC_TAKE(other);
		}
	}
	const char *base = strrchr(path, '/');
	p->dockerfile_name = bxc_strdup(base ? base + 1 : path);
	if (r == 0)
		return bxc_err_set(err, BXC_NOT_FOUND,
			"failed to read dockerfile: open %s: no such file or directory",
			p->dockerfile_name);
	if (r < 0)
		return r;
	p->has_dockerfile = true;
	*ret_path = BXC_TAKE(path);
	return 0;
}

/*
 * <Dockerfile>.dockerignore alone counts where it exists; `dockerfile` is NULL for one that lies in no folder.
 * `request`: is told of it, for checks of the Dockerfile; NULL: not.
 */
static int read_ignore(bxc_csess_dir *d, const char *dockerfile, bxc_json *request, bxc_err **err)
{
	BXC_AUTOFREE char *own = dockerfile ? bxc_str_fmt("%s.dockerignore", dockerfile) : NULL;
	BXC_AUTOFREE char *common = bxc_str_fmt("%s/.dockerignore", d->path);
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(BXC_LIMIT_DOCKERFILE);
	const char *path = own;
	bxc_ignore *g = NULL;
	int r = own ? read_optional(own, BXC_LIMIT_DOCKERFILE, &text, err) : 0;
	if (r == 0) {
		path = common;
		r = read_optional(common, BXC_LIMIT_DOCKERFILE, &text, err);
	}
	if (r <= 0)
		return r;
	const char *slash = strrchr(path, '/');
	r = bxc_ignore_parse(bxc_buf_slice(&text), slash ? slash + 1 : path, &g, err);
	d->ignore = g;
	if (r >= 0 && request) {
		bxc_json *o = bxc_json_add_object(request, "ignore");
		BXC_AUTOFREE char *data = bxc_base64_encode(text.data, text.len);
		bxc_json_set_str(o, "name", slash ? slash + 1 : path);
		bxc_json_set_str(o, "data", data);
	}
	return r;
}

/* ---- standard input ---- */

static int take_stdin(build_plan *p, bxc_err **err)
{
	int r = bxc_fd_read_to_end(STDIN_FILENO, &p->dockerfile, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "Dockerfile on standard input");
	p->dockerfile_name = bxc_strdup("Dockerfile");
	p->has_dockerfile = true;
	return 0;
}

/* The cluster may ask for an archive more than once, and knows it by its digest: it is kept in a
 * file without a name. */
static int spool(build_plan *p, bxc_slice head, bxc_err **err)
{
	const char *tmp = getenv("TMPDIR");
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(CHUNK);
	BXC_AUTOCLOSE int fd =
		open(bxc_str_empty(tmp) ? "/tmp" : tmp, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return bxc_err_errno(err, errno, "a temporary file for the context");
	memcpy(chunk, head.p, head.n);
	for (size_t n = head.n; n;) {
		p->upload.size += n;
		if (p->upload.size > SPOOL_MAX)
			return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
				"the context on standard input has more than %llu bytes",
				(unsigned long long)SPOOL_MAX);
		bxc_hasher_update(h, chunk, n);
		int r = bxc_fd_write_all(fd, chunk, n, err);
		if (r >= 0)
			r = bxc_fd_read_full(STDIN_FILENO, chunk, CHUNK, &n, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "context on standard input");
	}
	p->upload.digest = bxc_hasher_final(h);
	p->upload.fd = BXC_TAKE_FD(fd);
	p->has_upload = true;
	return 0;
}

static int context_of_stdin(build_plan *p, const char *file, bxc_err **err)
{
	uint8_t head[SNIFF_BYTES];
	size_t n = 0;
	if (bxc_str_eq(file, "-"))
		return cmd_usage(err,
			"invalid argument: can't use stdin for both build context and dockerfile");
	int r = bxc_fd_read_full(STDIN_FILENO, head, sizeof(head), &n, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "standard input");
	if (n == 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"standard input is empty: neither a context nor a Dockerfile");
	if (bxc_tar_is_context(bxc_slice_of(head, n)))
		return spool(p, bxc_slice_of(head, n), err);
	if (file)
		return cmd_usage(err, "ambiguous Dockerfile source: both stdin and flag correspond to "
				  "Dockerfiles");
	r = bxc_buf_append(&p->dockerfile, head, n, err);
	return r < 0 ? r : take_stdin(p, err);
}

/* ---- the context ---- */

/*
 * dir: the context when it is a folder. In one from elsewhere (NULL) the Dockerfile has the name
 * given, unless it is a file of this machine. *ret_path: the file that was read; NULL: none.
 */
static int find_dockerfile(
	build_plan *p, const char *dir, const char *file, char **ret_path, bxc_err **err)
{
	bool is_url = file && bxc_remote_is_http(file);
	if (bxc_str_eq(file, "-"))
		return take_stdin(p, err);
	if (!is_url && (dir || (file && *file == '/')))
		return read_dockerfile(p, dir, file, ret_path, err);
	p->dockerfile_name = bxc_strdup(file && !is_url ? file : "Dockerfile");
	return 0;
}

static int context_of_folder(build_plan *p, const char *dir, const char *file, bxc_err **err)
{
	BXC_AUTOFREE char *path = NULL;
	bxc_csess_dir *d = add_dir(p, "context", dir);
	bxc_json_set_str(p->request, "context", "context");
	/* The name of the folder tells projects apart, where the Dockerfile is always called the same. */
	BXC_AUTOFREE char *real = realpath(dir, NULL);
	bxc_json_set_str(p->request, "project", real ? strrchr(real, '/') + 1 : NULL);
	int r = find_dockerfile(p, dir, file, &path, err);
	return r < 0 ? r : read_ignore(d, path, p->request, err);
}

static int context_elsewhere(build_plan *p, const char *place, const char *file, bxc_err **err)
{
	BXC_AUTOFREE char *path = NULL;
	bxc_json_set_str(p->request, "remote_context", place);
	return find_dockerfile(p, NULL, file, &path, err);
}

/* 1: a git repository or a file of a web server; 0: neither. */
static int is_elsewhere(const char *place, bxc_err **err)
{
	BXC_AUTOGITREF bxc_git_ref g = {0};
	int r = bxc_git_ref_parse(place, true, &g, err);
	if (r == 0 && bxc_remote_is_http(place)) {
		r = bxc_remote_check_http(place, err);
		r = r < 0 ? r : 1;
	}
	return r < 0 ? cmd_usage_mark(err, r) : r;
}

int plan_context(const bxc_cli *cli, build_plan *p, bxc_err **err)
{
	const char *place = bxc_cli_arg(cli, 0), *file = bxc_cli_str(cli, "file");
	struct stat st;
	bxc_buf_init(&p->dockerfile, BXC_LIMIT_DOCKERFILE);
	if (bxc_str_empty(file))
		file = NULL;
	bool file_is_url = file && bxc_remote_is_http(file);
	int r = file_is_url ? bxc_remote_check_http(file, err) : 0;
	if (r < 0)
		return bxc_err_wrap(err, cmd_usage_mark(err, r), "--file");
	if (bxc_str_eq(place, "-")) {
		r = context_of_stdin(p, file, err);
		char digest[BXC_DIGEST_STR_MAX];
		if (r >= 0 && p->has_upload) {
			BXC_AUTOFREE char *url = bxc_str_fmt(
				"upload://%s", bxc_digest_str(&p->upload.digest, digest));
			r = context_elsewhere(p, url, file, err);
		} else if (r >= 0) {
			/* A Dockerfile alone: its context is empty. */
			add_dir(p, "context", "");
			bxc_json_set_str(p->request, "context", "context");
		}
	} else if (stat(place, &st) == 0) {
		r = S_ISDIR(st.st_mode)
			    ? context_of_folder(p, place, file, err)
			    : cmd_usage(err, "unable to prepare context: '%s' is no folder", place);
	} else {
		r = is_elsewhere(place, err);
		if (r == 0)
			r = bxc_err_set(err, BXC_NOT_FOUND,
				"unable to prepare context: path \"%s\" not found", place);
		if (r > 0)
			r = context_elsewhere(p, place, file, err);
	}
	if (r < 0)
		return r;
	bxc_json *d = bxc_json_add_object(p->request, "dockerfile");
	bxc_json_set_str(d, "name", p->dockerfile_name);
	if (p->has_dockerfile) {
		BXC_AUTOFREE char *data = bxc_base64_encode(p->dockerfile.data, p->dockerfile.len);
		bxc_json_set_str(d, "data", data);
	} else if (file_is_url) {
		bxc_json_set_str(d, "url", file);
	}
	return 0;
}

/* ---- named contexts ---- */

/* The manifest that a tag stands for in the layout, or the only one there is. */
static int find_in_layout(const char *dir, const char *tag, bxc_digest *ret, bxc_err **err)
{
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/index.json", dir);
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(BXC_LIMIT_MANIFEST);
	bxc_oci_index index = {0};
	const bxc_descriptor *found = NULL;
	int r = bxc_fs_read_file(AT_FDCWD, path, BXC_LIMIT_MANIFEST, &text, err);
	if (r >= 0)
		r = bxc_oci_index_parse(bxc_buf_slice(&text), &index, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "'%s'", path);
	BXC_ARR_FOREACH (d, &index.manifests)
		if (!found &&
			bxc_str_eq(bxc_env_get(d->annotations, "org.opencontainers.image.ref.name"),
				tag))
			found = d;
	if (!found && index.manifests.n == 1)
		found = &index.manifests.v[0];
	if (found)
		*ret = found->digest;
	else
		r = bxc_err_set(
			err, BXC_NOT_FOUND, "'%s' has no image '%s', and not just one", dir, tag);
	bxc_oci_index_done(&index);
	return r;
}

/* "path[:tag][@digest]" */
static int layout_context(
	build_plan *p, bxc_json *o, const char *name, const char *spec, bxc_err **err)
{
	const char *at = strchr(spec, '@');
	BXC_AUTOFREE char *rest = at ? bxc_strndup(spec, (size_t)(at - spec)) : bxc_strdup(spec);
	char *colon = strchr(rest, ':');
	const char *tag = colon ? colon + 1 : "latest";
	bxc_digest d;
	char digest[BXC_DIGEST_STR_MAX];
	if (colon)
		*colon = 0;
	int r = at ? bxc_digest_parse(at + 1, &d, err) : find_in_layout(rest, tag, &d, err);
	if (r < 0)
		return bxc_err_wrap(
			err, r, "oci-layout reference \"%.256s\" could not be resolved", spec);
	bxc_csess_layout *l = bxc_arr_push(&p->layouts);
	*l = (bxc_csess_layout){
		.name = bxc_str_fmt("layout-%zu", p->layouts.n), .path = BXC_TAKE(rest)};
	BXC_AUTOFREE char *value =
		bxc_str_fmt("oci-layout://%s@%s", l->name, bxc_digest_str(&d, digest));
	bxc_json_set_str(o, name, value);
	return 0;
}

static int folder_context(
	build_plan *p, bxc_json *o, const char *name, const char *path, bxc_err **err)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return bxc_err_errno(
			err, errno, "failed to get build context %s: '%s'", name, path);
	if (!S_ISDIR(st.st_mode))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"failed to get build context %s: '%s' is no folder", name, path);
	/* Names of the client's own folders are taken. */
	bool taken = bxc_str_eq(name, "context") || bxc_str_eq(name, "dockerfile");
	BXC_AUTOFREE char *local = bxc_str_fmt("%s%s", taken ? "_" : "", name),
			  *value = bxc_str_fmt("local:%s", local);
	bxc_csess_dir *d = add_dir(p, local, path);
	bxc_json_set_str(o, name, value);
	return read_ignore(d, NULL, NULL, err);
}

static int one_context(build_plan *p, bxc_json *o, const char *spec, bxc_err **err)
{
	const char *eq = strchr(spec, '=');
	BXC_AUTOREF bxc_ref ref = {0};
	if (!eq || !eq[1])
		return cmd_usage(err, "invalid context value: %s, expected key=value", spec);
	BXC_AUTOFREE char *given = bxc_strndup(spec, (size_t)(eq - spec));
	int r = bxc_ref_parse(given, &ref, err);
	if (r < 0)
		return bxc_err_wrap(err, cmd_usage_mark(err, r), "invalid context name %s", given);
	BXC_AUTOFREE char *name = bxc_ref_familiar(&ref);
	if (bxc_str_has_suffix(name, ":latest"))
		name[strlen(name) - strlen(":latest")] = 0;
	const char *value = eq + 1;
	struct stat st;
	if (bxc_str_has_prefix(value, "oci-layout://"))
		return layout_context(p, o, name, value + strlen("oci-layout://"), err);
	r = bxc_str_has_prefix(value, "docker-image://") || bxc_str_has_prefix(value, "target:");
	if (r == 0 && stat(value, &st) < 0)
		r = is_elsewhere(value, err);
	if (r <= 0)
		return r < 0 ? r : folder_context(p, o, name, value, err);
	bxc_json_set_str(o, name, value);
	return 0;
}

int plan_named_contexts(const bxc_cli *cli, build_plan *p, bxc_err **err)
{
	char *const *list = bxc_cli_list(cli, "build-context");
	if (!list || !*list)
		return 0;
	bxc_json *o = bxc_json_add_object(p->request, "contexts");
	int r = 0;
	for (; r >= 0 && *list; list++)
		r = one_context(p, o, *list, err);
	return r;
}
