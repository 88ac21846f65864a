/* SPDX-License-Identifier: Apache-2.0 */
/* The model behind all renderers: vertices, their statuses, logs and times. */
#include "client/progress/progress_internal.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/base64.h"

#define LINE_MAX_BYTES (64u << 10)
#define LOG_CHUNK_MAX  (4u << 20)

static void vertex_free(vertex *v)
{
	free(v->digest);
	free(v->name);
	bxc_strv_free(v->inputs);
	free(v->worker);
	free(v->waits);
	free(v->error);
	for (size_t i = 0; i < BXC_ARRAY_SIZE(v->partial); i++)
		bxc_buf_done(&v->partial[i]);
	BXC_ARR_FOREACH (l, &v->pending)
		free(*l);
	bxc_arr_done(&v->pending);
	for (size_t i = 0; i < LOG_TAIL_LINES; i++)
		free(v->tail[i]);
	BXC_ARR_FOREACH (s, &v->statuses)
		free(s->id);
	bxc_arr_done(&v->statuses);
	free(v);
}

bxc_prog *bxc_prog_new(const bxc_prog_config *c)
{
	bxc_prog *p = bxc_calloc(1, sizeof(*p));
	p->c = *c;
	p->builder = bxc_strdup(c->builder);
	p->by_digest = bxc_map_new(NULL);
	return p;
}

void bxc_prog_free(bxc_prog *p)
{
	if (!p)
		return;
	BXC_ARR_FOREACH (v, &p->vertices)
		vertex_free(*v);
	bxc_arr_done(&p->vertices);
	BXC_ARR_FOREACH (w, &p->warnings)
		bxc_json_free(*w);
	bxc_arr_done(&p->drawn_columns);
	bxc_arr_done(&p->warnings);
	bxc_map_free(p->by_digest);
	free(p->builder);
	free(p->source_name);
	free(p->source);
	free(p);
}

void bxc_prog_set_source(bxc_prog *p, const char *name, const void *text, size_t n)
{
	free(p->source_name);
	free(p->source);
	p->source_name = bxc_strdup(name);
	p->source = bxc_malloc(n + 1);
	memcpy(p->source, text, n);
	p->source[n] = '\0';
}

char *bytes_text(uint64_t n)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
	double v = (double)n;
	size_t u = 0;
	while (v >= 1000 && u + 1 < BXC_ARRAY_SIZE(units)) {
		v /= 1000;
		u++;
	}
	if (u == 0)
		return bxc_str_fmt("%lluB", (unsigned long long)n);
	return bxc_str_fmt("%.*f%s", v < 10 ? 2 : v < 100 ? 1 : 0, v, units[u]);
}

char *seconds_text(int64_t ns)
{
	return bxc_str_fmt("%.1fs", (double)ns / 1e9);
}

vertex *vertex_find(bxc_prog *p, const char *digest)
{
	return digest ? bxc_map_get(p->by_digest, digest) : NULL;
}

static vertex *vertex_get(bxc_prog *p, const char *digest)
{
	vertex *v = vertex_find(p, digest);
	if (v)
		return v;
	v = bxc_calloc(1, sizeof(*v));
	v->digest = bxc_strdup(digest);
	v->name = bxc_strdup("");
	for (size_t i = 0; i < BXC_ARRAY_SIZE(v->partial); i++)
		bxc_buf_init(&v->partial[i], LINE_MAX_BYTES);
	*bxc_arr_push(&p->vertices) = v;
	bxc_map_set(p->by_digest, digest, v);
	return v;
}

/* Events are one line each on screen: a name with line breaks is shown with blanks. */
char *one_line(const char *s)
{
	return bxc_str_one_line(bxc_strdup(s));
}

static void add_line(vertex *v, int64_t time_ns, const char *text, size_t n)
{
	/* After a carriage return the line is written anew. */
	const char *cr;
	while (n && text[n - 1] == '\r')
		n--;
	while ((cr = memchr(text, '\r', n))) {
		n -= (size_t)(cr + 1 - text);
		text = cr + 1;
	}
	double at = v->started_ns && time_ns > v->started_ns ? (double)(time_ns - v->started_ns) / 1e9 : 0;
	char *line = bxc_str_fmt("%.3f %.*s", at, (int)n, text);
	size_t slot = v->n_lines++ % LOG_TAIL_LINES;
	free(v->tail[slot]);
	v->tail[slot] = bxc_strdup(line);
	*bxc_arr_push(&v->pending) = line;
}

static void add_log(vertex *v, const bxc_json *ev)
{
	BXC_AUTOBUF bxc_buf data = BXC_BUF_INIT(LOG_CHUNK_MAX);
	uint64_t stream = bxc_json_get_u64(ev, "stream", 1);
	int64_t time_ns = bxc_json_get_i64(ev, "time_ns", 0);
	if (bxc_base64_decode(bxc_json_get_str(ev, "data", ""), LOG_CHUNK_MAX, &data, NULL) < 0)
		return;
	bxc_buf *part = &v->partial[stream < 3 ? stream : 1];
	const char *p = bxc_buf_text(&data), *end = p + data.len;
	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = (size_t)((nl ? nl : end) - p);
		size_t room = LINE_MAX_BYTES - part->len;
		size_t take = BXC_MIN(n, room);
		bxc_buf_add(part, p, take);
		if (nl || take < n) {
			add_line(v, time_ns, bxc_buf_text(part), part->len);
			bxc_buf_clear(part);
		}
		p += take + (nl && take == n ? 1 : 0);
	}
}

static void flush_partials(vertex *v, int64_t now_ns)
{
	for (size_t i = 0; i < BXC_ARRAY_SIZE(v->partial); i++) {
		if (v->partial[i].len)
			add_line(v, now_ns, bxc_buf_text(&v->partial[i]), v->partial[i].len);
		bxc_buf_clear(&v->partial[i]);
	}
}

static void set_text(char **slot, const char *s)
{
	if (!s)
		return;
	free(*slot);
	*slot = one_line(s);
}

static void on_vertex(bxc_prog *p, const bxc_json *ev)
{
	vertex *v = vertex_get(p, bxc_json_get_str(ev, "digest", ""));
	int64_t started = bxc_json_get_i64(ev, "started_ns", 0), completed = bxc_json_get_i64(ev, "completed_ns", 0);
	set_text(&v->name, bxc_json_get_str(ev, "name", NULL));
	set_text(&v->worker, bxc_json_get_str(ev, "worker", NULL));
	if (started) {
		v->started_ns = started;
		free(v->waits);
		v->waits = NULL;
	}
	/* A step whose result was lost runs again. */
	if (started && !completed && v->completed_ns) {
		v->completed_ns = 0;
		v->final_printed = false;
	}
	if (completed) {
		flush_partials(v, completed);
		v->completed_ns = completed;
	}
	if (!v->inputs)
		bxc_ignore(bxc_json_get_strv(ev, "inputs", &v->inputs, NULL));
	v->cached = bxc_json_get_bool(ev, "cached", v->cached);
	v->canceled = bxc_json_get_bool(ev, "canceled", false);
	free(v->error);
	v->error = bxc_strdup(bxc_json_get_str(ev, "error", NULL));
}

static void on_status(bxc_prog *p, const bxc_json *ev)
{
	vertex *v = vertex_get(p, bxc_json_get_str(ev, "vertex", ""));
	const char *id = bxc_json_get_str(ev, "id", "");
	status *s = NULL;
	BXC_ARR_FOREACH (o, &v->statuses)
		if (bxc_str_eq(o->id, id))
			s = o;
	if (!s) {
		s = bxc_arr_push(&v->statuses);
		s->id = one_line(id);
	}
	s->current = bxc_json_get_u64(ev, "current", s->current);
	s->total = bxc_json_get_u64(ev, "total", s->total);
	int64_t started = bxc_json_get_i64(ev, "started_ns", 0);
	if (!s->started_ns)
		s->started_ns = started;
	s->completed_ns = bxc_json_get_i64(ev, "completed_ns", 0);
	s->dirty = true;
}

static void on_waiting(bxc_prog *p, const bxc_json *ev)
{
	vertex *v = vertex_get(p, bxc_json_get_str(ev, "vertex", ""));
	set_text(&v->name, bxc_json_get_str(ev, "name", NULL));
	set_text(&v->waits, bxc_json_get_str(ev, "reason", ""));
	v->waits_since_ns = bxc_json_get_i64(ev, "since_ns", 0);
	if (p->c.mode == BXC_PROG_PLAIN)
		*bxc_arr_push(&v->pending) = bxc_str_fmt("waiting: %s", v->waits);
}

static void on_warning(bxc_prog *p, const bxc_json *ev)
{
	const char *digest = bxc_json_get_str(ev, "vertex", NULL);
	*bxc_arr_push(&p->warnings) = bxc_json_dup(ev);
	if (!digest || p->c.mode != BXC_PROG_PLAIN)
		return;
	BXC_AUTOFREE char *text = one_line(bxc_json_get_str(ev, "short", ""));
	*bxc_arr_push(&vertex_get(p, digest)->pending) = bxc_str_fmt("WARN: %s", text);
}

/* It came from elsewhere: here are its lines, for excerpts. */
static void on_dockerfile(bxc_prog *p, const bxc_json *ev)
{
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(BXC_LIMIT_DOCKERFILE);
	if (bxc_base64_decode(bxc_json_get_str(ev, "data", ""), BXC_LIMIT_DOCKERFILE, &text, NULL) >= 0)
		bxc_prog_set_source(p, bxc_json_get_str(ev, "name", "Dockerfile"), bxc_buf_text(&text), text.len);
}

void bxc_prog_event(bxc_prog *p, const bxc_json *ev, int64_t now_ns)
{
	const char *type = bxc_json_get_str(ev, "type", "");
	if (!p->begun_ns)
		p->begun_ns = now_ns;
	if (bxc_str_eq(type, "vertex"))
		on_vertex(p, ev);
	else if (bxc_str_eq(type, "status"))
		on_status(p, ev);
	else if (bxc_str_eq(type, "log"))
		add_log(vertex_get(p, bxc_json_get_str(ev, "vertex", "")), ev);
	else if (bxc_str_eq(type, "waiting"))
		on_waiting(p, ev);
	else if (bxc_str_eq(type, "warning"))
		on_warning(p, ev);
	else if (bxc_str_eq(type, "dockerfile"))
		on_dockerfile(p, ev);
	if (p->c.mode == BXC_PROG_RAWJSON)
		rawjson_event(p, ev, now_ns);
	else if (p->c.mode == BXC_PROG_PLAIN)
		plain_flush(p, now_ns, false);
}

void bxc_prog_tick(bxc_prog *p, int64_t now_ns)
{
	if (p->c.mode == BXC_PROG_TTY)
		tty_draw(p, now_ns, false);
	else if (p->c.mode == BXC_PROG_PLAIN)
		plain_flush(p, now_ns, false);
}

void bxc_prog_resize(bxc_prog *p, int width, int height)
{
	p->c.width = width;
	p->c.height = height;
	if (p->c.mode == BXC_PROG_TTY)
		tty_resized(p);
}

void bxc_prog_finish(bxc_prog *p, const bxc_json *error, int64_t now_ns)
{
	BXC_ARR_FOREACH (v, &p->vertices)
		flush_partials(*v, now_ns);
	if (p->c.mode == BXC_PROG_TTY)
		tty_draw(p, now_ns, true);
	else if (p->c.mode == BXC_PROG_PLAIN)
		plain_flush(p, now_ns, true);
	if (p->c.mode == BXC_PROG_PLAIN || p->c.mode == BXC_PROG_TTY)
		final_warnings(p);
	if (error)
		final_block(p, error);
	fflush(p->c.out);
}
