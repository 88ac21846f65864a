/* SPDX-License-Identifier: Apache-2.0 */
/* BuildKit's SolveStatus (moby/buildkit client/graph.go), one JSON object a line: what is []byte there is base64 here. */
#include "client/progress/progress_internal.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/codec/base64.h"

static void set_time(bxc_json *o, const char *key, const bxc_json *ev, const char *from)
{
	int64_t ns = bxc_json_get_i64(ev, from, 0);
	if (!ns)
		return;
	BXC_AUTOFREE char *t = bxc_clock_rfc3339(ns);
	bxc_json_set_str(o, key, t);
}

/* Texts of warnings are bytes in BuildKit's stream. */
static char *bytes_of(const char *s)
{
	return bxc_base64_encode(s, strlen(s));
}

static void put_warning(bxc_json *o, const bxc_json *ev)
{
	BXC_AUTOFREE char *text = bytes_of(bxc_json_get_str(ev, "short", ""));
	uint64_t line = bxc_json_get_u64(ev, "line_start", 0);
	bxc_json_set_str(o, "vertex", bxc_json_get_str(ev, "vertex", ""));
	bxc_json_set_i64(o, "level", bxc_json_get_i64(ev, "level", 1));
	bxc_json_set_str(o, "short", text);
	if (bxc_json_len(bxc_json_get(ev, "detail"))) {
		bxc_json *list = bxc_json_add_array(o, "detail");
		BXC_JSON_FOREACH (d, bxc_json_get(ev, "detail")) {
			BXC_AUTOFREE char *bytes = bytes_of(bxc_json_string(d) ? bxc_json_string(d) : "");
			bxc_json_push_str(list, bytes);
		}
	}
	bxc_json_set_str(o, "url", bxc_json_get_str(ev, "url", NULL));
	if (!line)
		return;
	bxc_json_set_str(bxc_json_add_object(o, "sourceInfo"), "filename", bxc_json_get_str(ev, "file", ""));
	bxc_json *range = bxc_json_push_object(bxc_json_add_array(o, "range"));
	bxc_json_set_u64(bxc_json_add_object(range, "start"), "line", line);
	bxc_json_set_u64(bxc_json_add_object(range, "end"), "line", bxc_json_get_u64(ev, "line_end", line));
}

bxc_json *bxc_prog_warnings(const bxc_prog *p)
{
	bxc_json *list = p->warnings.n ? bxc_json_array() : NULL;
	BXC_ARR_FOREACH (w, &p->warnings)
		put_warning(bxc_json_push_object(list), *w);
	return list;
}

void rawjson_event(bxc_prog *p, const bxc_json *ev, int64_t now_ns)
{
	const char *type = bxc_json_get_str(ev, "type", "");
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	if (bxc_str_eq(type, "vertex")) {
		bxc_json *o = bxc_json_push_object(bxc_json_add_array(j, "vertexes"));
		bxc_json_set_str(o, "digest", bxc_json_get_str(ev, "digest", ""));
		if (bxc_json_len(bxc_json_get(ev, "inputs")))
			bxc_json_set_take(o, "inputs", bxc_json_dup(bxc_json_get(ev, "inputs")));
		bxc_json_set_str(o, "name", bxc_json_get_str(ev, "name", ""));
		set_time(o, "started", ev, "started_ns");
		set_time(o, "completed", ev, "completed_ns");
		if (bxc_json_get_bool(ev, "cached", false))
			bxc_json_set_bool(o, "cached", true);
		bxc_json_set_str(o, "error", bxc_json_get_str(ev, "error", NULL));
	} else if (bxc_str_eq(type, "status")) {
		bxc_json *o = bxc_json_push_object(bxc_json_add_array(j, "statuses"));
		bxc_json_set_str(o, "id", bxc_json_get_str(ev, "id", ""));
		bxc_json_set_str(o, "vertex", bxc_json_get_str(ev, "vertex", ""));
		bxc_json_set_str(o, "name", bxc_json_get_str(ev, "id", ""));
		bxc_json_set_u64(o, "current", bxc_json_get_u64(ev, "current", 0));
		if (bxc_json_get_u64(ev, "total", 0))
			bxc_json_set_u64(o, "total", bxc_json_get_u64(ev, "total", 0));
		BXC_AUTOFREE char *now = bxc_clock_rfc3339(bxc_json_get_i64(ev, "completed_ns", now_ns));
		bxc_json_set_str(o, "timestamp", now);
		set_time(o, "started", ev, "started_ns");
		set_time(o, "completed", ev, "completed_ns");
	} else if (bxc_str_eq(type, "log")) {
		bxc_json *o = bxc_json_push_object(bxc_json_add_array(j, "logs"));
		bxc_json_set_str(o, "vertex", bxc_json_get_str(ev, "vertex", ""));
		bxc_json_set_u64(o, "stream", bxc_json_get_u64(ev, "stream", 1));
		bxc_json_set_str(o, "data", bxc_json_get_str(ev, "data", ""));
		set_time(o, "timestamp", ev, "time_ns");
	} else if (bxc_str_eq(type, "warning")) {
		put_warning(bxc_json_push_object(bxc_json_add_array(j, "warnings")), ev);
	} else {
		return;
	}
	BXC_AUTOFREE char *text = bxc_json_print(j);
	fprintf(p->c.out, "%s\n", text);
	fflush(p->c.out);
}
