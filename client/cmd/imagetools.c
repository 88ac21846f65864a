/* SPDX-License-Identifier: Apache-2.0 */
/* imagetools: images and indexes in registries, looked at and put together, without any cluster. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cmd/cmd_internal.h"
#include "client/session/session.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/cas/cas.h"
#include "common/codec/digest.h"
#include "common/os/fs.h"
#include "common/registry/registry.h"

#define MANIFEST_MAX (4u << 20)
#define CONFIG_MAX   (16u << 20)

typedef struct tools {
	bxc_http_client *http;
	bxc_reg *reg;
	char *docker_config;
} tools;

static void tools_done(tools *t)
{
	bxc_reg_free(t->reg);
	bxc_http_client_free(t->http);
	free(t->docker_config);
}
#define AUTO_TOOLS BXC_CLEANUP(tools_done)

static int credentials(const char *domain, const char *scope, const char *realm,
	const char *service, bxc_secret **ret_token, bxc_secret **ret_basic, void *ud,
	bxc_err **err)
{
	const tools *t = ud;
	char *basic = NULL;
	(void)scope;
	(void)realm;
	(void)service;
	(void)ret_token;
	int r = bxc_csess_credentials(t->docker_config, domain, &basic, err);
	if (r >= 0 && basic)
		*ret_basic = bxc_secret_new(basic, strlen(basic));
	if (basic)
		explicit_bzero(basic, strlen(basic));
	free(basic);
	return r;
}

static int tools_open(tools *t, bxc_err **err)
{
	t->docker_config = bxc_csess_docker_config();
	int r = bxc_http_client_new(&(bxc_http_client_config){0}, &t->http, err);
	if (r >= 0)
		t->reg = bxc_reg_new(
			t->http, &(bxc_reg_config){.credentials = credentials, .ud = t});
	return r;
}

/* ---- inspect ---- */

static void field(const char *indent, const char *key, const char *value)
{
	BXC_AUTOFREE char *v = cmd_shown(value);
	printf("%s%-*s%s\n", indent, 13 - (int)strlen(indent), key, v);
}

static void print_annotations(const char *indent, char *const *annotations)
{
	if (!annotations || !annotations[0])
		return;
	printf("%sAnnotations:\n", indent);
	for (char *const *a = annotations; *a; a++) {
		const char *eq = strchrnul(*a, '=');
		BXC_AUTOFREE char *key = bxc_strndup(*a, (size_t)(eq - *a));
		BXC_AUTOFREE char *shown = cmd_shown(key);
		BXC_AUTOFREE char *value = cmd_shown(*eq ? eq + 1 : "");
		printf("%s  %s: %s\n", indent, shown, value);
	}
}

static int print_index(const bxc_ref *ref, bxc_slice text, bxc_err **err)
{
	bxc_oci_index index = {0};
	BXC_AUTOFREE char *repo = bxc_ref_repo(ref);
	int r = bxc_oci_index_parse(text, &index, err);
	if (r < 0)
		return r;
	print_annotations("", index.annotations);
	printf("\nManifests:\n");
	BXC_ARR_FOREACH (m, &index.manifests) {
		char d[BXC_DIGEST_STR_MAX];
		BXC_AUTOFREE char *name = bxc_str_fmt("%s@%s", repo, bxc_digest_str(&m->digest, d));
		BXC_AUTOFREE char *platform =
			m->has_platform ? bxc_platform_str(&m->platform) : NULL;
		field("  ", "Name:", name);
		field("  ", "MediaType:", m->media_type);
		if (platform)
			field("  ", "Platform:", platform);
		print_annotations("  ", m->annotations);
		printf("\n");
	}
	bxc_oci_index_done(&index);
	return 0;
}

/* The forms of --format that scripts use. */
static int print_form(const char *form, const bxc_ref *ref, const bxc_descriptor *d, bxc_slice text,
	bxc_err **err)
{
	BXC_AUTOJSON bxc_json *doc = NULL, *desc = bxc_descriptor_to_json(d);
	char digest[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *name = bxc_ref_str(ref);
	if (bxc_str_eq(form, "{{.Name}}")) {
		printf("%s\n", name);
		return 0;
	}
	if (bxc_str_eq(form, "{{.Manifest.Digest}}") ||
		bxc_str_eq(form, "{{.Manifest.MediaType}}")) {
		printf("%s\n", strstr(form, "Digest") ? bxc_digest_str(&d->digest, digest)
						      : d->media_type);
		return 0;
	}
	bool whole = bxc_str_eq(form, "{{json .}}");
	if (!whole && !bxc_str_eq(form, "{{json .Manifest}}"))
		return cmd_usage(err,
			"--format '%.128s': this version knows {{json .}}, {{json .Manifest}}, "
			"{{.Manifest.Digest}}, {{.Manifest.MediaType}} and {{.Name}}",
			form);
	int r = bxc_json_parse(text, &doc, err);
	if (r < 0)
		return r;
	/* As buildx: the descriptor, and of an index what it lists. */
	bxc_json_set_take(desc, "schemaVersion", bxc_json_new_i64(2));
	if (bxc_oci_is_index(d->media_type))
		bxc_json_set_take(desc, "manifests", bxc_json_dup(bxc_json_get(doc, "manifests")));
	BXC_AUTOJSON bxc_json *all = bxc_json_object();
	bxc_json_set_str(all, "name", name);
	bxc_json_set_take(all, "manifest", BXC_TAKE(desc));
	BXC_AUTOFREE char *out = bxc_json_print_pretty(whole ? all : bxc_json_get(all, "manifest"));
	printf("%s\n", out);
	return 0;
}

static int inspect(const bxc_cli *cli, bxc_err **err)
{
	AUTO_TOOLS tools t = {0};
	BXC_AUTOREF bxc_ref ref = {0};
	BXC_CLEANUP(bxc_descriptor_done) bxc_descriptor d = {0};
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(MANIFEST_MAX);
	const char *form = bxc_cli_str(cli, "format");
	int r = bxc_ref_parse(bxc_cli_arg(cli, 0), &ref, err);
	if (r < 0)
		return cmd_usage_mark(err, r);
	r = tools_open(&t, err);
	if (r >= 0)
		r = bxc_reg_resolve(t.reg, &ref, NULL, &d, &text, err);
	if (r < 0)
		return r;
	if (bxc_cli_flag(cli, "raw")) {
		fwrite(text.data, 1, text.len, stdout);
		return 0;
	}
	if (form)
		return print_form(form, &ref, &d, bxc_buf_slice(&text), err);
	char digest[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *name = bxc_ref_str(&ref);
	field("", "Name:", name);
	field("", "MediaType:", d.media_type);
	field("", "Digest:", bxc_digest_str(&d.digest, digest));
	return bxc_oci_is_index(d.media_type) ? print_index(&ref, bxc_buf_slice(&text), err) : 0;
}

static int ended(int r, const bxc_err *err)
{
	if (r >= 0)
		return BXC_EXIT_OK;
	cmd_fail(err);
	return cmd_is_usage(err) ? BXC_EXIT_USAGE : BXC_EXIT_FAILED;
}

int cmd_imagetools_inspect(const bxc_cli *cli, void *ud)
{
	BXC_AUTOERR bxc_err *err = NULL;
	(void)ud;
	int r = inspect(cli, &err);
	return ended(r, err);
}

/* ---- create ---- */

/* A manifest that goes into the new index, and where its content is. */
typedef struct part {
	bxc_descriptor desc;
	char *repo; /* "host/path" */
} part;

typedef struct creation {
	tools *t;
	BXC_ARR(part) parts;
	bxc_buf only; /* the one source, as it is; empty: there are several, or a new index is asked
			 for */
	char *only_type;
	bxc_blob_store *store;
	char *store_dir;
} creation;

static void creation_done(creation *c)
{
	BXC_ARR_FOREACH (p, &c->parts) {
		bxc_descriptor_done(&p->desc);
		free(p->repo);
	}
	bxc_arr_done(&c->parts);
	bxc_buf_done(&c->only);
	free(c->only_type);
	bxc_blob_store_free(c->store);
	if (c->store_dir)
		bxc_ignore(bxc_fs_rmtree(AT_FDCWD, c->store_dir, NULL));
	free(c->store_dir);
}

static void add_part(creation *c, const bxc_descriptor *d, const char *repo)
{
	BXC_ARR_FOREACH (p, &c->parts)
		if (bxc_digest_eq(&p->desc.digest, &d->digest))
			return;
	part *p = bxc_arr_push(&c->parts);
	bxc_descriptor_copy(&p->desc, d);
	p->repo = bxc_strdup(repo);
}

static int to_buffer(const void *p, size_t n, void *ud, bxc_err **err)
{
	return bxc_buf_append(ud, p, n, err);
}

/* A manifest that stands alone does not say what it is for: its configuration does. */
static int find_platform(
	creation *c, const bxc_ref *ref, bxc_slice text, bxc_descriptor *d, bxc_err **err)
{
	bxc_oci_manifest m = {0};
	BXC_AUTOBUF bxc_buf config = BXC_BUF_INIT(CONFIG_MAX);
	BXC_AUTOJSON bxc_json *j = NULL;
	int r = bxc_oci_manifest_parse(text, &m, err);
	if (r >= 0)
		r = bxc_reg_blob(
			c->t->reg, ref, &m.config, NULL, to_buffer, &config, NULL, NULL, err);
	if (r >= 0)
		r = bxc_json_parse(bxc_buf_slice(&config), &j, err);
	bxc_oci_manifest_done(&m);
	if (r < 0)
		return r;
	const char *os = bxc_json_get_str(j, "os", NULL),
		   *arch = bxc_json_get_str(j, "architecture", NULL);
	const char *variant = bxc_json_get_str(j, "variant", NULL);
	if (!os || !arch)
		return 0;
	BXC_AUTOFREE char *name =
		bxc_str_fmt("%s/%s%s%s", os, arch, variant ? "/" : "", variant ? variant : "");
	r = bxc_platform_parse(name, &d->platform, err);
	d->has_platform = r >= 0;
	return r;
}

static int add_source(creation *c, const char *name, bool is_only, bool optional, bxc_err **err)
{
	BXC_AUTOREF bxc_ref ref = {0};
	BXC_CLEANUP(bxc_descriptor_done) bxc_descriptor d = {0};
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(MANIFEST_MAX);
	BXC_AUTOERR bxc_err *why = NULL;
	bxc_oci_index index = {0};
	int r = bxc_ref_parse(name, &ref, err);
	if (r < 0)
		return cmd_usage_mark(err, r);
	r = bxc_reg_resolve(c->t->reg, &ref, NULL, &d, &text, &why);
	if (r == -BXC_NOT_FOUND && optional)
		return 0;
	if (r < 0)
		return bxc_err_move(err, BXC_TAKE(why));
	BXC_AUTOFREE char *repo = bxc_ref_repo(&ref);
	if (is_only) {
		r = bxc_buf_append(&c->only, text.data, text.len, err);
		c->only_type = bxc_strdup(d.media_type);
	}
	if (r >= 0 && bxc_oci_is_index(d.media_type)) {
		r = bxc_oci_index_parse(bxc_buf_slice(&text), &index, err);
		BXC_ARR_FOREACH (m, &index.manifests)
			add_part(c, m, repo);
		bxc_oci_index_done(&index);
		return r;
	}
	if (r >= 0)
		r = find_platform(c, &ref, bxc_buf_slice(&text), &d, err);
	if (r >= 0)
		add_part(c, &d, repo);
	return r;
}

struct bringing {
	creation *c;
	const bxc_ref *from;
	const bxc_descriptor *d;
};

static int bring(void *ud, bxc_err **err)
{
	struct bringing *b = ud;
	int r = bxc_reg_fetch(b->c->t->reg, b->from, b->d, NULL, b->c->store, NULL, NULL, err);
	return r < 0 ? r : 0;
}

static int copy_blob(creation *c, const bxc_ref *from, const char *repo, const bxc_ref *to,
	const bxc_descriptor *d, bxc_err **err)
{
	struct bringing b = {c, from, d};
	int r = bxc_reg_transfer(
		c->t->reg, to, d, repo, c->store, bring, &b, NULL, NULL, NULL, err);
	if (r >= 0)
		r = bxc_blob_remove(c->store, &d->digest, err);
	return r;
}

/* The manifest of a part, and what it names, into the repository of `to`. */
static int copy_part(creation *c, const part *p, const bxc_ref *to, bxc_err **err)
{
	BXC_AUTOREF bxc_ref from = {0}, there = {0};
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(MANIFEST_MAX);
	bxc_oci_manifest m = {0};
	BXC_AUTOFREE char *target = bxc_ref_repo(to);
	if (bxc_str_eq(target, p->repo))
		return 0;
	int r = bxc_ref_parse(p->repo, &from, err);
	if (r >= 0)
		r = bxc_reg_manifest(c->t->reg, &from, &p->desc, NULL, &text, err);
	if (r >= 0)
		r = bxc_oci_manifest_parse(bxc_buf_slice(&text), &m, err);
	if (r >= 0)
		r = copy_blob(c, &from, p->repo, to, &m.config, err);
	BXC_ARR_FOREACH (l, &m.layers)
		if (r >= 0 && !(l->urls && l->urls[0]))
			r = copy_blob(c, &from, p->repo, to, l, err);
	bxc_oci_manifest_done(&m);
	if (r < 0)
		return r;
	bxc_ref_copy(&there, to);
	free(there.tag);
	there.tag = NULL;
	there.digest = p->desc.digest;
	return bxc_reg_push_manifest(
		c->t->reg, &there, p->desc.media_type, bxc_buf_slice(&text), NULL, err);
}

static char *new_index(const creation *c, char *const *annotations)
{
	bool docker = c->parts.n > 0 && !annotations;
	BXC_ARR_FOREACH (p, &c->parts)
		docker = docker && bxc_str_eq(p->desc.media_type, BXC_MT_DOCKER_MANIFEST);
	bxc_oci_index index = {
		.media_type = bxc_strdup(docker ? BXC_MT_DOCKER_LIST : BXC_MT_OCI_INDEX),
		.annotations = bxc_strv_dup(annotations)};
	BXC_ARR_FOREACH (p, &c->parts)
		bxc_descriptor_copy(bxc_arr_push(&index.manifests), &p->desc);
	char *text = bxc_oci_index_print(&index);
	bxc_oci_index_done(&index);
	return text;
}

static int push_all(creation *c, char *const *tags, const char *type, bxc_slice text, bxc_err **err)
{
	int r = 0;
	for (char *const *t = tags; r >= 0 && *t; t++) {
		BXC_AUTOREF bxc_ref to = {0};
		r = bxc_ref_parse(*t, &to, err);
		if (r < 0)
			return cmd_usage_mark(err, r);
		BXC_ARR_FOREACH (p, &c->parts)
			if (r >= 0)
				r = copy_part(c, p, &to, err);
		if (r >= 0)
			r = bxc_reg_push_manifest(c->t->reg, &to, type, text, NULL, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "%s", *t);
		char d[BXC_DIGEST_STR_MAX];
		bxc_digest digest = bxc_digest_of(text.p, text.n);
		BXC_AUTOFREE char *name = bxc_ref_familiar(&to);
		printf("%s@%s\n", name, bxc_digest_str(&digest, d));
	}
	return r;
}

/* "[index:]KEY=VALUE"; of a manifest there is nothing to be said here, it is what it is. */
static int read_annotations(const bxc_cli *cli, char ***ret, bxc_err **err)
{
	for (char *const *a = bxc_cli_list(cli, "annotation"); a && *a; a++) {
		const char *text = bxc_str_has_prefix(*a, "index:") ? *a + strlen("index:") : *a;
		const char *eq = strchr(text, '=');
		if (!eq || eq == text || memchr(text, ':', (size_t)(eq - text)))
			return cmd_usage(
				err, "--annotation '%.256s': expected [index:]KEY=VALUE", *a);
		bxc_strv_push(ret, text);
	}
	return 0;
}

static int make_store_dir(char **ret, bxc_err **err)
{
	const char *base = getenv("TMPDIR");
	BXC_AUTOFREE char *dir =
		bxc_str_fmt("%s/bxc-imagetools-XXXXXX", bxc_str_empty(base) ? "/tmp" : base);
	if (!mkdtemp(dir))
		return bxc_err_errno(err, errno, "make a folder for blobs");
	*ret = BXC_TAKE(dir);
	return 0;
}

static int create(const bxc_cli *cli, bxc_err **err)
{
	AUTO_TOOLS tools t = {0};
	BXC_CLEANUP(creation_done) creation c = {.t = &t, .only = BXC_BUF_INIT(MANIFEST_MAX)};
	BXC_AUTOSTRV char **annotations = NULL;
	char *const *tags = bxc_cli_list(cli, "tag");
	bool dry = bxc_cli_flag(cli, "dry-run"), append = bxc_cli_flag(cli, "append");
	if (!dry && !tags)
		return cmd_usage(err, "can't push without a tag: give -t, or --dry-run");
	if (append && bxc_strv_len(tags) != 1)
		return cmd_usage(err, "--append needs exactly one -t");
	int r = read_annotations(cli, &annotations, err);
	if (r >= 0)
		r = tools_open(&t, err);
	bool alone = bxc_cli_n_args(cli) == 1 && !append && !annotations;
	if (r >= 0 && append)
		r = add_source(&c, tags[0], false, true, err);
	for (size_t i = 0; r >= 0 && i < bxc_cli_n_args(cli); i++)
		r = add_source(&c, bxc_cli_arg(cli, i), alone, false, err);
	if (r < 0)
		return r;
	/* One source stays what it is: an index always, an image when no index is wished for. */
	bool as_is = c.only.len && (bxc_oci_is_index(c.only_type) ||
					   bxc_str_eq(bxc_cli_str(cli, "prefer-index"), "false"));
	BXC_AUTOFREE char *index = as_is ? NULL : new_index(&c, annotations);
	bxc_slice text = as_is ? bxc_buf_slice(&c.only) : bxc_slice_of(index, strlen(index));
	if (dry) {
		fwrite(text.p, 1, text.n, stdout);
		printf("\n");
		return 0;
	}
	BXC_AUTOJSON bxc_json *doc = NULL;
	r = bxc_json_parse(text, &doc, err);
	if (r >= 0)
		r = make_store_dir(&c.store_dir, err);
	if (r >= 0)
		r = bxc_blob_local_open(c.store_dir, &c.store, err);
	return r < 0 ? r
		     : push_all(&c, tags,
			       bxc_json_get_str(
				       doc, "mediaType", as_is ? c.only_type : BXC_MT_OCI_INDEX),
			       text, err);
}

int cmd_imagetools_create(const bxc_cli *cli, void *ud)
{
	BXC_AUTOERR bxc_err *err = NULL;
	(void)ud;
	int r = create(cli, &err);
	return ended(r, err);
}
