/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>

#include "client/session/session.h"
#include "common/base/map.h"
#include "common/tar/tar.h"

struct bxc_csess {
	bxc_csess_config c;
	bxc_chan *chan;
	bxc_pool *pool;
	bxc_pool *agent_pool;        /* connections to agents last as long as steps; NULL: no agents */
	bxc_cancel *cancel;
	char *docker_config;
	bool was_up, is_up, lost;
	char *id;                    /* of the session when it began: by this builds know it, also after a restart */
	char *build;                 /* that is followed; NULL: none yet */
	bool is_canceled, is_done;
	_Atomic bool is_written;     /* what a descriptor was given can't be taken back */
	uint64_t seq;                /* of the last of its events that was handed over */
	pthread_mutex_t lock;        /* protects trees; leaf */
	bxc_map *trees;              /* digest text -> bxc_tree: what was scanned */
};

/* Waits for the end of a question that is all in the name of its stream. Without it the answer may be over
 * before the question is, and would be taken back. */
int read_end(bxc_csess *s, bxc_chan_stream *st, bxc_err **err);
/* A stream as the source of a tar. */
typedef struct stream_source {
	bxc_csess *s;
	bxc_chan_stream *stream;
} stream_source;
ssize_t from_stream(void *p, size_t n, void *source, bxc_err **err);
/* All run on a pool. The stream ends after them; of cache.blob, layout, secret, token and upload the question has ended before. */
int serve_scan(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err);
int serve_fetch(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err);
int serve_export(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err);
int serve_cache_blob(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err);
int serve_cache_lacks(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err);
int serve_cache_put(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err);
int serve_layout(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err);
int serve_upload(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err);
int serve_token(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err);
int serve_secret(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err);
int serve_agent(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err);

/* What is known of a context from earlier builds (index.c). By a folder and what is used of it; owned, NULL: it can't be told. */
char *index_name(int root_fd, char *const *include);
bxc_tree_index *index_load(const char *name);      /* NULL: none */
void index_save(const char *name, const bxc_buf *index);

/* The blob of the OCI layout in `dir` that the question names (file.c). */
int send_layout_blob(bxc_csess *s, bxc_chan_stream *st, const char *dir, const bxc_json *name, bxc_err **err);

/*
 * The tar of an OCI layout, read to its last entry, into a folder that may hold one already. `tag`: the
 * name of what comes, NULL: as it says itself. `drop_rest`: blobs that no manifest needs go.
 */
int layout_write(const char *dir, const char *tag, bool drop_rest, bxc_tar_source_fn source, void *ud, bxc_err **err);

/* Unpacks a tar that `source` yields beneath the folder `dest`; with `exact` all else in it is removed. */
int unpack_tree(const char *dest, bool exact, bxc_tar_source_fn source, void *ud, bxc_err **err);

