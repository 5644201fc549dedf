/* SPDX-License-Identifier: Apache-2.0 */
#include "os/windows/files.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "profile/isf.h"
#include "profile/offsets.h"
#include "profile/pdb.h"

#define FILE_BYTES_MAX PDB_BYTES_MAX
#define PATH_BYTES 4096

static int file_error(const char *path, struct hvmi_error *err)
{
	int code = errno == ENOENT || errno == ENOTDIR ? -ENOENT :
		   errno == EACCES || errno == EPERM   ? -EACCES :
							 -EIO;
	return hvmi_error_set(err, code, HVMI_NO_ADDRESS, "cannot read '%s': %s", path,
			      strerror(errno));
}

/* All of a file, copied: it may change under us, and what is parsed must not. */
static int read_all(const char *path, int fd, uint8_t **ret, size_t *len_ret,
		    struct hvmi_error *err)
{
	struct stat stat;
	size_t done = 0;

	if (fstat(fd, &stat) < 0)
		return file_error(path, err);
	if (!S_ISREG(stat.st_mode) || (uint64_t)stat.st_size > FILE_BYTES_MAX)
		return hvmi_error_set(err, -EBADMSG, HVMI_NO_ADDRESS,
				      "'%s' is no file, or too long to hold symbols", path);
	size_t size = (size_t)stat.st_size;
	CLEANUP_FREE uint8_t *bytes = malloc_filled(MAX(size, 1u));
	if (!bytes)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "no memory for '%s'", path);
	while (done < size) {
		ssize_t got = read(fd, bytes + done, size - done);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return file_error(path, err);
		if (got == 0)
			break;
		done += (size_t)got;
	}
	*ret = bytes;
	*len_ret = done;
	bytes = NULL;
	return 0;
}

static int read_file(const char *path, uint8_t **ret, size_t *len_ret, struct hvmi_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return file_error(path, err);
	int rc = read_all(path, fd, ret, len_ret, err);
	close(fd);
	return rc;
}

/* Compare the ids, and refuse what is of another kernel. */
static int check_id(const char *path, const struct windows_kernel_id *id, const uint8_t guid[16],
		    uint32_t age, bool force, struct files_knowledge *ret, struct hvmi_error *err)
{
	char wanted[WINDOWS_PDB_KEY_BYTES];

	if (guid) {
		ret->has_id = true;
		windows_pdb_key(guid, age, ret->key);
	}
	if (!guid || !id->pdb_name[0])
		return 0;
	windows_pdb_key(id->guid, id->age, wanted);
	ret->is_other = strcmp(wanted, ret->key) != 0;
	if (!ret->is_other || force)
		return 0;
	return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
			      "'%s' is of another kernel: of PDB id %s, and the guest runs %s; give "
			      "the right file, or force it (HVMI_OS_FORCE_PROFILE)", path, ret->key,
			      wanted);
}

/* Says which file it was. */
static int in_file(const char *path, int rc, struct hvmi_error *err)
{
	struct hvmi_error inner;

	if (rc >= 0 || !err)
		return rc;
	inner = *err;
	return hvmi_error_set(err, rc, inner.address, "'%s': %s", path, inner.text);
}

struct request {
	const char *path;
	const struct windows_kernel_id *id;
	bool force;
	struct hvmi_error *err;
};

static int load_pdb(const struct request *r, const uint8_t *bytes, size_t len,
		    struct files_knowledge *ret)
{
	struct pdb_id id;

	ret->format = FILES_PDB;
	int rc = in_file(r->path, pdb_identify(bytes, len, &id, r->err), r->err);
	if (rc == 0)
		rc = check_id(r->path, r->id, id.guid, id.age, r->force, ret, r->err);
	if (rc == 0)
		rc = in_file(r->path, pdb_load(bytes, len, r->id->base, &ret->types,
					       &ret->symbols, r->err), r->err);
	return rc;
}

static int load_isf(const struct request *r, const uint8_t *bytes, size_t len,
		    struct files_knowledge *ret)
{
	struct isf isf;

	ret->format = FILES_ISF;
	int rc = in_file(r->path, isf_open(bytes, len, &isf, r->err), r->err);
	if (rc < 0)
		return rc;
	rc = check_id(r->path, r->id, isf.has_pdb ? isf.guid : NULL, isf.age, r->force, ret, r->err);
	if (rc == 0)
		rc = in_file(r->path, isf_load(&isf, r->id->base, &ret->types, &ret->symbols,
					       r->err), r->err);
	isf_close(&isf);
	return rc;
}

static bool is_text(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < MIN(len, 4096u); i++)
		if (bytes[i] < ' ' && !strchr("\t\r\n", bytes[i]))
			return false;
	return len > 0 && len <= OFFSETS_BYTES_MAX;
}

static int load_offsets(const struct request *r, const uint8_t *bytes, size_t len,
			struct files_knowledge *ret)
{
	struct offsets_id id;

	ret->format = FILES_OFFSETS;
	offsets_identify((const char *)bytes, len, &id);
	int rc = check_id(r->path, r->id, id.has_id ? id.guid : NULL, id.age, r->force, ret, r->err);
	if (rc < 0)
		return rc;
	ret->offsets = malloc(len);
	if (!ret->offsets)
		return hvmi_error_set(r->err, -ENOMEM, HVMI_NO_ADDRESS, "no memory for offsets");
	memcpy(ret->offsets, bytes, len);
	ret->offsets_len = len;
	return 0;
}

int files_load(const char *path, const struct windows_kernel_id *id, bool force,
	       struct files_knowledge *ret, struct hvmi_error *err)
{
	const struct request r = { path, id, force, err };
	struct files_knowledge knowledge = { 0 };
	CLEANUP_FREE uint8_t *bytes = NULL;
	size_t len = 0;

	int rc = read_file(path, &bytes, &len, err);
	if (rc < 0)
		return rc;
	if (len >= PDB_MAGIC_BYTES && memcmp(bytes, PDB_MAGIC, PDB_MAGIC_BYTES) == 0)
		rc = load_pdb(&r, bytes, len, &knowledge);
	else if (isf_probe(bytes, len))
		rc = load_isf(&r, bytes, len, &knowledge);
	else if (is_text(bytes, len))
		rc = load_offsets(&r, bytes, len, &knowledge);
	else
		rc = hvmi_error_set(err, -EBADMSG, HVMI_NO_ADDRESS,
				    "'%s' is no PDB, no ISF file and no offsets file", path);
	if (rc < 0)
		files_free(&knowledge);
	else
		*ret = knowledge;
	return rc;
}

void files_free(struct files_knowledge *knowledge)
{
	types_deinit(&knowledge->types);
	symbols_deinit(&knowledge->symbols);
	free(knowledge->offsets);
	*knowledge = (struct files_knowledge){ 0 };
}

/* The guest chooses the name: it must not lead out of the folder. */
static bool plain_name(const char *name)
{
	return name[0] != '\0' && name[0] != '.' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
		       strlen(name);
}

/* Where a file of a kernel may lie in a folder: NAME, GUIDAGE and GUID-AGE stand for themselves. */
static const char *const places[] = {
	"NAME/GUIDAGE/NAME",
	"NAME/GUID-AGE.json.xz",
	"NAME/GUID-AGE.json",
	"windows/NAME/GUID-AGE.json.xz",
	"windows/NAME/GUID-AGE.json",
	"GUID-AGE.json.xz",
	"GUID-AGE.json",
	"NAME",
};

struct names {
	const char *name;
	char key[WINDOWS_PDB_KEY_BYTES], dashed[WINDOWS_PDB_KEY_BYTES + 8];
};

static bool expand(const char *folder, size_t folder_len, const char *place,
		   const struct names *names, char *ret, size_t size)
{
	/* The longer word first: one begins the other. */
	const struct {
		const char *word, *text;
	} words[] = {
		{ "GUID-AGE", names->dashed }, { "GUIDAGE", names->key }, { "NAME", names->name },
	};
	int len = snprintf(ret, size, "%.*s/", (int)folder_len, folder);

	while (*place && len >= 0 && (size_t)len < size) {
		size_t i = 0;
		while (i < ARRAY_SIZE(words) &&
		       strncmp(place, words[i].word, strlen(words[i].word)) != 0)
			i++;
		if (i < ARRAY_SIZE(words)) {
			len += snprintf(ret + len, size - (size_t)len, "%s", words[i].text);
			place += strlen(words[i].word);
		} else {
			len += snprintf(ret + len, size - (size_t)len, "%c", *place++);
		}
	}
	return len >= 0 && (size_t)len < size;
}

static int search_folder(struct hvmi_vm *vm, const char *folder, size_t len,
			 const struct windows_kernel_id *id, const struct names *names,
			 struct files_knowledge *ret, char *path)
{
	struct hvmi_error reason;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		if (!expand(folder, len, places[i], names, path, PATH_BYTES) ||
		    access(path, F_OK) != 0)
			continue;
		int rc = files_load(path, id, false, ret, &reason);
		if (rc == 0 && ret->has_id && ret->format != FILES_OFFSETS)
			return 0;
		if (rc == 0) {
			files_free(ret);
			hvmi_error_set(&reason, -EINVAL, HVMI_NO_ADDRESS,
				       "'%s' does not say which kernel it is of", path);
		}
		if (rc == -ENOMEM)
			return rc;
		vm_log(vm, HVMI_LOG_WARNING, "passed over: %s", reason.text);
	}
	return -ENOENT;
}

int files_search(struct hvmi_vm *vm, const char *folders, const struct windows_kernel_id *id,
		 struct files_knowledge *ret, char *path_ret, size_t path_size)
{
	struct names names = { .name = id->pdb_name };
	char path[PATH_BYTES];

	if (!plain_name(id->pdb_name))
		return -ENOENT;
	windows_pdb_key(id->guid, id->age, names.key);
	snprintf(names.dashed, sizeof(names.dashed), "%.32s-%u", names.key, id->age);
	for (const char *at = folders; *at;) {
		size_t len = strcspn(at, ":");
		int rc = len ? search_folder(vm, at, len, id, &names, ret, path) : -ENOENT;
		if (rc == 0)
			snprintf(path_ret, path_size, "%s", path);
		if (rc != -ENOENT)
			return rc;
		at += len + (at[len] == ':');
	}
	return -ENOENT;
}
