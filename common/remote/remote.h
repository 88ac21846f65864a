/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of sources that lie elsewhere: git repositories and files of web servers, as the command
 * line, a Dockerfile and a definition write them. Module prefix: bxc_remote, bxc_git. Text only: no
 * I/O. What is accepted here can be given to git and to an HTTP client as it is: it holds no
 * control character and no blank, and nothing in it starts with '-'.
 */
#pragma once

#include "common/base/err.h"
#include "common/base/str.h"

#define BXC_GIT_HEX_MAX 64u /* digits of a commit; 40 for SHA-1 */

typedef enum bxc_git_tri {
	BXC_GIT_UNSET = 0,
	BXC_GIT_NO,
	BXC_GIT_YES,
} bxc_git_tri;

typedef struct bxc_git_ref {
	char *remote;	/* for git: without fragment, and without the query where it was read */
	char *ref;	/* branch, tag, "refs/..." or commit; NULL: the default branch */
	char *subdir;	/* clean, relative; NULL: the top */
	char *checksum; /* beginning of a commit's name, lower case; NULL: none */
	char *commit;	/* what `ref` was found to stand for: a whole name; NULL: to be asked for */
	bxc_git_tri keep_git_dir;
	bxc_git_tri submodules; /* unset: yes */
	bool has_mtime;		/* one of the two was asked for */
	bool mtime_of_commit;	/* files get the time of the commit, not of the checkout */
	bool by_commit;		/* fetch `checksum` by its name, whatever `ref` stands for */
} bxc_git_ref;

void bxc_git_ref_done(bxc_git_ref *g);
#define BXC_AUTOGITREF BXC_CLEANUP(bxc_git_ref_done)

/*
 * "https://host/r.git#ref:subdir", "https://host/r.git?branch=b&subdir=d", "git://", "ssh://",
 * "user@host:path", and for a context also "github.com/owner/repo".
 * 1: *ret is set; 0: the text is no name of a repository; BXC_INVALID_ARGUMENT: it is one, and
 * wrong.
 */
BXC_MUST_CHECK int bxc_git_ref_parse(
	const char *text, bool is_context, bxc_git_ref *ret, bxc_err **err);
/* A whole name of a commit. */
bool bxc_git_is_commit(const char *s);
/* "<beginning of a commit>" of --checksum: hex digits, at least 7; owned in lower case, or NULL. */
char *bxc_git_checksum(const char *s);

/* As the source of a definition: "git://<remote without scheme>#ref:subdir" and sorted attributes
 * (both owned). */
void bxc_git_ref_to_source(const bxc_git_ref *g, char **ret_identifier, char ***ret_attrs);
/* The reverse; for definitions from outside. */
BXC_MUST_CHECK int bxc_git_ref_from_source(
	const char *identifier, char *const *attrs, bxc_git_ref *ret, bxc_err **err);

/* "http://" or "https://" in any case. */
bool bxc_remote_is_http(const char *s);
/* A URL that may be asked for: http or https, with a host. */
BXC_MUST_CHECK int bxc_remote_check_http(const char *url, bxc_err **err);
/* The last part of the URL's path, decoded; owned. NULL when that is no name for a file. */
char *bxc_remote_url_name(const char *url);
/* May a file in a folder be called so? */
bool bxc_remote_is_file_name(const char *name);
/* The host of a remote ("host:port"), owned; "" when there is none. */
char *bxc_remote_host(const char *remote);
/* The text with what stands for user and password blotted out; owned. For messages. */
char *bxc_remote_redact(const char *url);
