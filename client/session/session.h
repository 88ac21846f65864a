/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's end of the channel: serves what a build asks for (common/proto/PROTOCOL.md, "Client
 * channel") and hands over the events. Module prefix: bxc_csess. The loop's thread unless told
 * otherwise; what blocks runs on a pool of its own.
 */
#pragma once

#include "common/channel/channel.h"
#include "common/codec/json.h"
#include "common/filesync/filesync.h"

typedef struct bxc_csess bxc_csess;

typedef struct bxc_csess_export {
	const char *type;            /* oci, docker, tar: one stream of bytes; local: a tar to unpack */
	const char *dest;            /* file, or folder for local; NULL: to fd */
	bool layout;                 /* oci: dest is a folder, in which the tar becomes a layout */
	bool exact;                  /* local: what is in dest beside the result goes */
	int fd;                      /* with dest NULL: where the bytes go (standard output); -1: this export sends nothing */
} bxc_csess_export;

typedef struct bxc_csess_dir {
	const char *name;            /* by which a build asks for it: "context" and names of named contexts */
	const char *path;            /* "": an empty folder */
	const bxc_ignore *ignore;    /* may be NULL */
} bxc_csess_dir;

typedef struct bxc_csess_layout {
	const char *name;            /* by which a build asks for it */
	const char *path;            /* of an OCI image layout */
} bxc_csess_layout;

typedef struct bxc_csess_upload {
	int fd;                      /* of a file */
	uint64_t size;
	bxc_digest digest;
} bxc_csess_upload;

/* Asked for only when a step needs it; the file or variable is read then. */
typedef struct bxc_csess_secret {
	const char *id;
	const char *file;            /* NULL: env counts */
	const char *env;
} bxc_csess_secret;

#define BXC_CSESS_SECRET_MAX (500u << 10)   /* bytes */

typedef struct bxc_csess_agent {
	const char *id;
	const char *socket;          /* path */
	bool raw;                    /* any protocol; else that of SSH agents, and only what reads and signs */
} bxc_csess_agent;
typedef struct bxc_csess_cache {
	const char *dir;             /* folder with an OCI layout; NULL: this cache is not the client's to give or take */
	const char *tag;             /* that what is written gets */
	bool reset;                  /* blobs that nothing in the folder needs go after writing */
} bxc_csess_cache;

typedef struct bxc_csess_config {
	bxc_loop *loop;
	const char *address;         /* of the channel */
	const bxc_secret *token;     /* may be NULL */
	bxc_tls_config *tls;
	const bxc_csess_dir *dirs;
	size_t n_dirs;
	const bxc_csess_layout *layouts;   /* single blobs of these are served */
	size_t n_layouts;
	const bxc_csess_upload *upload;    /* an archive that is the context; NULL: none */
	const bxc_csess_export *exports;   /* by index of the request's exports */
	size_t n_exports;
	const bxc_csess_secret *secrets;   /* of equal ids the last one counts */
	size_t n_secrets;
	const bxc_csess_agent *agents;
	size_t n_agents;
	const bxc_csess_cache *imports;    /* by index of the request's cache_from */
	size_t n_imports;
	const bxc_csess_cache *caches;     /* by index of its cache_to */
	size_t n_caches;
	const char *docker_config;   /* path of config.json with credentials; NULL: $DOCKER_CONFIG or ~/.docker */
	void (*on_up)(const char *session_id, void *ud);                   /* once */
	void (*on_event)(const bxc_json *ev, void *ud);                    /* of the build that is followed */
	void (*on_lost)(const bxc_err *why, void *ud);                     /* final; before on_up: could not connect */
	void *ud;
} bxc_csess_config;

/* Everything in the config is borrowed until the session is closed. */
BXC_MUST_CHECK int bxc_csess_start(const bxc_csess_config *c, bxc_csess **ret, bxc_err **err);
/* Asks for the events of a build, from its first. Once. */
BXC_MUST_CHECK int bxc_csess_attach(bxc_csess *s, const char *build, bxc_err **err);
/* BXC_UNAVAILABLE: there is no connection. The end of the build tells that it was heard. */
BXC_MUST_CHECK int bxc_csess_cancel(bxc_csess *s, const char *build, bxc_err **err);

/* Where docker keeps its configuration for this user; NULL: nowhere. Owned. */
char *bxc_csess_docker_config(void);
/* "user:password" of a registry from a config.json (NULL: none) or the helper that it names; *ret_basic NULL: none is
 * known. To be wiped by whoever takes it. */
BXC_MUST_CHECK int bxc_csess_credentials(const char *config_path, const char *domain, char **ret_basic, bxc_err **err);

/*
 * An SSH agent of our own that holds the given private keys (strv of paths): a process of OpenSSH, which
 * reads every kind of key and keeps them in memory that it alone can read. It ends with us, however we
 * end. A key with a passphrase is an error.
 */
typedef struct bxc_csess_keyring bxc_csess_keyring;
BXC_MUST_CHECK int bxc_csess_keyring_start(char *const *keys, bxc_csess_keyring **ret, bxc_err **err);
const char *bxc_csess_keyring_socket(const bxc_csess_keyring *k);   /* borrowed */
void bxc_csess_keyring_stop(bxc_csess_keyring *k);

void bxc_csess_close(bxc_csess *s);   /* stops serving, waits for its threads, says goodbye, frees */

/* The manifest of the cache in a folder that has this tag; NOT_FOUND. Any thread. */
BXC_MUST_CHECK int bxc_csess_cache_find(const char *dir, const char *tag, bxc_digest *ret, bxc_err **err);
