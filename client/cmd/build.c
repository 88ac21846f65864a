/* SPDX-License-Identifier: Apache-2.0 */
/* bxc build and bxc attach: session, request, events, result. One loop on the main thread. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>

#include "client/cmd/cmd_internal.h"
#include "client/progress/progress.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/base64.h"
#include "common/os/fs.h"

#define TICK_NS (100 * BXC_NS_PER_MS)
#define CANCEL_NS (3 * BXC_NS_PER_S) /* for the cluster to say that a build was canceled */

struct run {
	build_plan *plan;
	const bxc_builder *builder;
	bxc_http_client *http;
	bxc_loop *loop;
	bxc_csess *session;
	bxc_prog *prog;
	bxc_loop_timer *tick;
	bxc_loop_timer *cancel_timer; /* until it runs out the cluster may answer; NULL: it was not asked to cancel */
	char *id;
	bool attached;               /* to a build of somebody else: it is watched, not owned */
	bool logs;                   /* only what it prints is wanted, on standard output */
	bool canceling, done;
	int code;
	bxc_err *err;                /* before or beside the build */
	bxc_json *result;
};

static void quit(struct run *r, int code)
{
	r->code = code;
	bxc_loop_quit(r->loop);
}

static void stop_with(struct run *r, bxc_err *err_take)
{
	if (!r->err)
		r->err = err_take;
	else
		bxc_err_free(err_take);
	quit(r, (int)bxc_exit_from_code(bxc_err_code(r->err)));
}

/* ---- session ---- */

static void on_up(const char *session_id, void *ud)
{
	struct run *r = ud;
	BXC_AUTOJSON bxc_json *answer = NULL;
	bxc_err *err = NULL;
	if (r->attached) {
		if (bxc_csess_attach(r->session, r->id, &err) < 0)
			stop_with(r, err);
		return;
	}
	bxc_json_set_str(r->plan->request, "session", session_id);
	int k = bxc_capi_call(r->http, r->builder, "POST", "/v1/builds", r->plan->request, &answer, &err);
	const char *id = bxc_json_get_str(answer, "id", NULL);
	if (k >= 0 && !id)
		k = bxc_err_set(&err, BXC_INTERNAL, "the coordinator gave the build no id");
	if (k >= 0) {
		r->id = bxc_strdup(id);
		k = bxc_csess_attach(r->session, id, &err);
	}
	if (k < 0)
		stop_with(r, err);
	else
		detached_ready(id);
}

static void on_lost(const bxc_err *why, void *ud)
{
	struct run *r = ud;
	bxc_err *e = bxc_err_copy(why);
	if (!e)
		bxc_ignore(bxc_err_set(&e, BXC_UNAVAILABLE, "the coordinator closed the channel"));
	bxc_ignore(bxc_err_wrap(&e, 0, "builder '%s'", r->builder->name));
	stop_with(r, e);
}

static void on_event(const bxc_json *ev, void *ud)
{
	struct run *r = ud;
	if (r->done)
		return;
	if (!bxc_str_eq(bxc_json_get_str(ev, "type", ""), "build.done")) {
		bxc_prog_event(r->prog, ev, bxc_clock_wall_ns());
		return;
	}
	r->done = true;
	const char *status = bxc_json_get_str(ev, "status", "");
	const bxc_json *error = bxc_json_get(ev, "error");
	bxc_prog_finish(r->prog, r->logs ? NULL : error, bxc_clock_wall_ns());
	if (r->logs) {
		quit(r, BXC_EXIT_OK);
		return;
	}
	if (bxc_json_get(ev, "result"))
		r->result = bxc_json_dup(bxc_json_get(ev, "result"));
	quit(r, bxc_str_eq(status, "done") ? BXC_EXIT_OK : bxc_str_eq(status, "canceled") ? BXC_EXIT_INTERRUPTED : BXC_EXIT_FAILED);
}

/* ---- signals and time ---- */

/* Nobody answers to the wish to cancel. The cluster ends builds whose client does not come back. */
static void give_up(void *ud)
{
	struct run *r = ud;
	fprintf(stderr, "\nbuilder '%s' does not answer: build %s may go on for a while; 'bxc cancel %s' ends it\n", r->builder->name, r->id,
		r->id);
	quit(r, BXC_EXIT_INTERRUPTED);
}

static void on_signal(int signo, void *ud)
{
	struct run *r = ud;
	(void)signo;
	if (r->attached) {
		if (!r->logs)
			fprintf(stderr, "\nbuild %s goes on; 'bxc cancel %s' ends it\n", r->id, r->id);
		quit(r, BXC_EXIT_INTERRUPTED);
		return;
	}
	/* The first asks the cluster to stop and waits for it; the second does not wait. */
	if (r->canceling || !r->id) {
		quit(r, BXC_EXIT_INTERRUPTED);
	} else if (bxc_csess_cancel(r->session, r->id, NULL) < 0) {
		give_up(r);
	} else {
		r->canceling = true;
		r->cancel_timer = bxc_loop_timer_new(r->loop, give_up, r);
		bxc_loop_timer_arm(r->cancel_timer, CANCEL_NS);
	}
}

static void terminal_size(int *width, int *height)
{
	struct winsize w = {0};
	bool ok = ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0;
	*width = ok ? w.ws_col : 80;
	*height = ok && w.ws_row > 0 ? w.ws_row : 24;
}

static void on_resize(int signo, void *ud)
{
	struct run *r = ud;
	int w, h;
	(void)signo;
	terminal_size(&w, &h);
	bxc_prog_resize(r->prog, w, h);
}

static void on_tick(void *ud)
{
	struct run *r = ud;
	bxc_prog_tick(r->prog, bxc_clock_wall_ns());
	bxc_loop_timer_arm(r->tick, TICK_NS);
}

/* ---- result ---- */

static const char *response_of(const struct run *r, const char *key)
{
	static const char *const lists[] = {"exports", "caches"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(lists); i++) {
		BXC_JSON_FOREACH (e, bxc_json_get(r->result, lists[i])) {
			const char *v = bxc_json_get_str(bxc_json_get(e, "response"), key, NULL);
			if (v)
				return v;
		}
	}
	return NULL;
}

static int write_file(const char *path, const char *text, bxc_err **err)
{
	const char *slash = strrchr(path, '/');
	BXC_AUTOFREE char *dir = slash ? bxc_strndup(path, (size_t)(slash - path) + 1) : bxc_strdup(".");
	BXC_AUTOCLOSE int dir_fd = -1;
	int k = bxc_fs_open_dir(AT_FDCWD, dir, &dir_fd, err);
	if (k >= 0)
		k = bxc_fs_write_atomic(dir_fd, slash ? slash + 1 : path, text, strlen(text), 0644, err);
	return bxc_err_wrap(err, k, "'%s'", path);
}

static int write_metadata(const struct run *r, bxc_err **err)
{
	static const char *const keys[] = {"cache.manifest", "containerimage.config.digest", "containerimage.digest", "image.name"};
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	BXC_AUTOFREE char *ref = bxc_str_fmt("%s/%s/%s", r->builder->name, r->builder->name, r->id);
	bxc_json_set_str(j, "buildx.build.ref", ref);
	for (size_t i = 0; i < BXC_ARRAY_SIZE(keys); i++)
		bxc_json_set_str(j, keys[i], response_of(r, keys[i]));
	bool want_warnings = false;
	const char *asked = getenv("BUILDX_METADATA_WARNINGS");
	if (asked && bxc_str_to_bool(asked, &want_warnings, NULL) == 0 && want_warnings)
		bxc_json_set_take(j, "buildx.build.warnings", bxc_prog_warnings(r->prog));
	const char *desc = response_of(r, "containerimage.descriptor");
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(64u << 10);
	bxc_json *d = NULL;
	if (desc && bxc_base64_decode(desc, 64u << 10, &text, NULL) >= 0 && bxc_json_parse(bxc_buf_slice(&text), &d, NULL) >= 0)
		bxc_json_set_take(j, "containerimage.descriptor", d);
	BXC_AUTOFREE char *out = bxc_json_print_pretty(j);
	return write_file(r->plan->metadata_file, out, err);
}

static int write_results(const struct run *r, bxc_err **err)
{
	/* As buildx: the id of an image is its configuration's digest; an index has none. */
	const char *digest = response_of(r, "containerimage.config.digest");
	if (!digest)
		digest = response_of(r, "containerimage.digest");
	int k = 0;
	if (r->plan->iidfile && digest)
		k = write_file(r->plan->iidfile, digest, err);
	if (k >= 0 && r->plan->metadata_file)
		k = write_metadata(r, err);
	if (k >= 0 && r->plan->quiet && digest)
		printf("%s\n", digest);
	return k;
}

/* ---- the whole ---- */

static bxc_prog_mode mode_of(const build_plan *p)
{
	if (p->quiet || bxc_str_eq(p->progress, "quiet") || bxc_str_eq(p->progress, "none"))
		return BXC_PROG_QUIET;
	if (bxc_str_eq(p->progress, "rawjson"))
		return BXC_PROG_RAWJSON;
	if (bxc_str_eq(p->progress, "tty") || (bxc_str_eq(p->progress, "auto") && isatty(STDERR_FILENO)))
		return BXC_PROG_TTY;
	return BXC_PROG_PLAIN;
}

static int start(struct run *r, const char *channel, bxc_tls_config *tls, bxc_err **err)
{
	const build_plan *p = r->plan;
	int w, h;
	terminal_size(&w, &h);
	r->prog = bxc_prog_new(&(bxc_prog_config){
		.mode = mode_of(p),
		.out = r->logs ? stdout : stderr,
		.builder = r->logs ? NULL : r->builder->name,
		.color = isatty(STDERR_FILENO) && bxc_str_empty(getenv("NO_COLOR")),
		.width = w,
		.height = h,
		.debug = p->debug,
	});
	bxc_prog_set_source(r->prog, p->dockerfile_name, bxc_buf_text(&p->dockerfile), p->dockerfile.len);
	int k = bxc_loop_new(&r->loop, err);
	if (k >= 0)
		k = bxc_loop_on_signal(r->loop, SIGINT, on_signal, r, err);
	if (k >= 0)
		k = bxc_loop_on_signal(r->loop, SIGTERM, on_signal, r, err);
	if (k >= 0)
		k = bxc_loop_on_signal(r->loop, SIGWINCH, on_resize, r, err);
	if (k < 0)
		return k;
	r->tick = bxc_loop_timer_new(r->loop, on_tick, r);
	bxc_loop_timer_arm(r->tick, TICK_NS);
	const bxc_csess_config sc = {
		.loop = r->loop,
		.address = channel,
		.token = r->builder->token,
		.tls = tls,
		.dirs = p->dirs.v,
		.n_dirs = p->dirs.n,
		.layouts = p->layouts.v,
		.n_layouts = p->layouts.n,
		.upload = p->has_upload ? &p->upload : NULL,
		.exports = p->exports.v,
		.n_exports = p->exports.n,
		.secrets = p->served_secrets.v,
		.n_secrets = p->served_secrets.n,
		.agents = p->served_agents.v,
		.n_agents = p->served_agents.n,
		.imports = p->imports.v,
		.n_imports = p->imports.n,
		.caches = p->caches.v,
		.n_caches = p->caches.n,
		.on_up = on_up,
		.on_event = on_event,
		.on_lost = on_lost,
		.ud = r,
	};
	return bxc_csess_start(&sc, &r->session, err);
}

/* Until the build has ended; the exit code. */
static int run_to_end(struct run *r, const char *channel, bxc_tls_config *tls)
{
	BXC_AUTOERR bxc_err *err = NULL;
	loader *load = NULL;
	int k = r->plan->load ? loader_start(&load, &r->plan->exports.v[r->plan->load_index].fd, &err) : 0;
	if (k >= 0)
		k = start(r, channel, tls, &err);
	if (k >= 0)
		k = bxc_loop_run(r->loop, &err);
	if (k >= 0 && load && r->code == BXC_EXIT_OK)
		k = loader_finish(BXC_TAKE(load), &err);
	loader_free(load);
	bool is_good = k >= 0 && r->result && r->code == BXC_EXIT_OK && !r->attached;
	if (is_good && r->plan->call.name)
		r->code = call_print(r->plan, bxc_json_get(r->result, "call"), stdout, stderr);
	else if (is_good)
		k = write_results(r, &err);
	if (k < 0)
		r->code = cmd_fail(err);
	else if (r->err)
		r->code = cmd_fail(r->err);
	bxc_csess_close(r->session);
	bxc_loop_timer_free(r->tick);
	bxc_loop_timer_free(r->cancel_timer);
	bxc_loop_free(r->loop);
	bxc_prog_free(r->prog);
	bxc_json_free(r->result);
	bxc_err_free(r->err);
	free(r->id);
	return r->code;
}

static int channel_of(const bxc_builder *b, bxc_http_client *http, char **channel, bxc_tls_config **tls, bxc_err **err)
{
	int k = bxc_capi_channel(http, b, channel, err);
	if (k >= 0 && bxc_str_has_prefix(*channel, "tls+tcp://"))
		k = bxc_tls_config_new(false, &(bxc_tls_files){.ca_file = b->ca_file}, tls, err);
	return k;
}

static int prepare(const bxc_cli *cli, build_plan *p, bxc_builder **b, bxc_http_client **http, char **channel, bxc_tls_config **tls, bxc_err **err)
{
	int k = cmd_builder(cli, b, err);
	if (k >= 0)
		k = build_plan_make(cli, p, err);
	if (k >= 0 && (*b)->embedded)
		k = bxc_embedded_start(*b, err);
	if (k >= 0)
		k = bxc_capi_http(*b, http, err);
	if (k >= 0)
		k = channel_of(*b, *http, channel, tls, err);
	return k;
}

int cmd_build(const bxc_cli *cli, void *ud)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_builder_freep) bxc_builder *b = NULL;
	BXC_AUTOFREE char *channel = NULL;
	BXC_CLEANUP(bxc_http_client_freep) bxc_http_client *http = NULL;
	BXC_CLEANUP(bxc_tls_config_unrefp) bxc_tls_config *tls = NULL;
	build_plan p = {0};
	struct run r = {.plan = &p, .code = BXC_EXIT_FAILED};
	(void)ud;
	if (bxc_cli_flag(cli, "detach") && !is_detached())
		return cmd_detach();
	int k = prepare(cli, &p, &b, &http, &channel, &tls, &err);
	if (k < 0) {
		bool bad_use = cmd_is_usage(err);
		if (!bad_use && bxc_str_has_prefix(bxc_err_text(err), "failed to read dockerfile"))
			bxc_ignore(bxc_err_wrap(&err, 0, "failed to build: failed to solve"));
		r.code = cmd_fail(err);
		build_plan_done(&p);
		return bad_use ? BXC_EXIT_USAGE : r.code;
	}
	if (p.outputs.n == 0 && !p.quiet && !p.call.name)
		fputs("WARNING: No output specified with bxc driver. Build result will only remain in the build cache. "
		      "To push result image into registry use --push; to keep it as files use --output\n", stderr);
	if (p.iidfile)
		unlink(p.iidfile);
	r.builder = b;
	r.http = http;
	r.code = run_to_end(&r, channel, tls);
	build_plan_done(&p);
	return r.code;
}

static int attach(const bxc_cli *cli, bool logs)
{
	BXC_AUTOERR bxc_err *err = NULL;
	AUTO_KNOWN_BUILD known_build k = {0};
	BXC_AUTOFREE char *channel = NULL;
	BXC_CLEANUP(bxc_tls_config_unrefp) bxc_tls_config *tls = NULL;
	build_plan p = {.dockerfile = BXC_BUF_INIT(BXC_LIMIT_DOCKERFILE), .progress = bxc_cli_str(cli, "progress")};
	struct run r = {.plan = &p, .attached = true, .logs = logs, .code = BXC_EXIT_FAILED};
	if (known_build_open(cli, &k, &err) < 0 || channel_of(k.builder, k.http, &channel, &tls, &err) < 0)
		return cmd_fail(err);
	if (!p.progress)
		p.progress = logs ? "plain" : "auto";
	/* For the excerpt of a failed step. */
	const bxc_json *file = bxc_json_get(bxc_json_get(k.record, "request"), "dockerfile");
	p.dockerfile_name = bxc_strdup(bxc_json_get_str(file, "name", "Dockerfile"));
	bxc_ignore(bxc_base64_decode(bxc_json_get_str(file, "data", ""), BXC_LIMIT_DOCKERFILE, &p.dockerfile, NULL));
	r.builder = k.builder;
	r.http = k.http;
	r.id = BXC_TAKE(k.id);
	r.code = run_to_end(&r, channel, tls);
	build_plan_done(&p);
	return r.code;
}

int cmd_attach(const bxc_cli *cli, void *ud)
{
	(void)ud;
	return attach(cli, false);
}

int cmd_follow_logs(const bxc_cli *cli)
{
	return attach(cli, true);
}
