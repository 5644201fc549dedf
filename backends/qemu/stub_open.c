/* SPDX-License-Identifier: Apache-2.0 */
#include "stub_open.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The character device that carries the stub that we turn on. */
#define CHARDEV "hvmi-gdb"

/* The file name that QEMU gives a character device, allocated, or NULL: there is none. */
static int find_chardev(struct monitor *m, const char *label, char **ret, struct hvmi_error *err)
{
	json_t *list, *chardev;
	size_t i;
	int rc = monitor_command(m, "query-chardev", NULL, &list, err);
	if (rc)
		return rc;
	*ret = NULL;
	json_array_foreach(list, i, chardev) {
		const char *name = json_string_value(json_object_get(chardev, "label"));
		const char *file = json_string_value(json_object_get(chardev, "filename"));
		if (name && !strcmp(name, label) && !*ret)
			*ret = strdup(file ? file : "");
	}
	json_decref(list);
	return 0;
}

static int dial_unix(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(address.sun_path))
		return -1;
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int dial_tcp(const char *host, const char *port)
{
	/* Who listens everywhere listens here, too. */
	if (!strcmp(host, "0.0.0.0") || !*host)
		host = "127.0.0.1";
	else if (!strcmp(host, "::"))
		host = "::1";
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV }, *list;
	if (getaddrinfo(host, port, &hints, &list))
		return -1;
	int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, list->ai_addr, list->ai_addrlen)) {
		close(fd);
		fd = -1;
	}
	freeaddrinfo(list);
	return fd;
}

/* "tcp:127.0.0.1:1234,server=on", "tcp:[::1]:1234,...", "unix:/run/gdb,server=on" */
static int dial(const char *name)
{
	char text[256];
	snprintf(text, sizeof(text), "%.*s", (int)strcspn(name, ","), name);
	if (!strncmp(text, "unix:", 5))
		return dial_unix(text + 5);
	char *port = strrchr(text, ':');
	if (strncmp(text, "tcp:", 4) || !port || port == text + 3)
		return -1;
	*port++ = '\0';
	char *host = text + 4;
	size_t len = strlen(host);
	if (len > 1 && host[0] == '[' && host[len - 1] == ']') {
		host[len - 1] = '\0';
		host++;
	}
	return dial_tcp(host, port);
}

static int turn_on(struct monitor *m, int *fd_ret, struct hvmi_error *err)
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return hvmi_error_set(err, -EIO, HVMI_NO_ADDRESS, "no socket can be made: %s",
				      strerror(errno));
	/* A socket without a name: nobody else can connect. */
	int rc = monitor_command_fd(m, "getfd", json_pack("{s:s}", "fdname", CHARDEV), ends[1], err);
	close(ends[1]);
	if (!rc) {
		rc = monitor_command(m, "chardev-add",
				     json_pack("{s:s,s:{s:s,s:{s:{s:s,s:{s:s}},s:b}}}", "id",
					       CHARDEV, "backend", "type", "socket", "data", "addr",
					       "type", "fd", "data", "str", CHARDEV, "server", 0),
				     NULL, err);
		if (rc)
			monitor_command(m, "closefd", json_pack("{s:s}", "fdname", CHARDEV), NULL,
					NULL);
	}
	char *text = NULL;
	if (!rc) {
		rc = monitor_hmp(m, -1, "gdbserver chardev:" CHARDEV, &text, err);
		if (!rc && !strstr(text, "Waiting for gdb connection"))
			rc = hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
					    "QEMU of %s does not turn its gdbstub on: %s", m->name,
					    *text ? text : "it does not say why");
		free(text);
		if (rc)
			monitor_command(m, "chardev-remove", json_pack("{s:s}", "id", CHARDEV), NULL,
					NULL);
	}
	if (rc) {
		close(ends[0]);
		return rc;
	}
	*fd_ret = ends[0];
	return 0;
}

void stub_disconnect(struct monitor *m)
{
	char *text = NULL;
	if (!monitor_hmp(m, -1, "gdbserver none", &text, NULL))
		free(text);
	/* QEMU removed it with the stub, unless it is older or newer than those we know. */
	monitor_command(m, "chardev-remove", json_pack("{s:s}", "id", CHARDEV), NULL, NULL);
}

static int busy(const struct monitor *m, struct hvmi_error *err)
{
	return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
			      "another program is connected to the gdbstub of %s, which serves one "
			      "at a time: end it (or ask to take over)", m->name);
}

int stub_connect(struct monitor *m, bool take_over, int *fd_ret, bool *ours_ret,
		 struct hvmi_error *err)
{
	static const char away[] = "disconnected:";
	char *name = NULL;
	int rc = find_chardev(m, CHARDEV, &name, err);
	if (rc)
		return rc;
	if (name) {
		/* Of a program that uses this library: it runs, or it was killed. */
		bool dead = !strncmp(name, away, sizeof(away) - 1);
		free(name);
		if (!dead && !take_over)
			return busy(m, err);
		stub_disconnect(m);
	}
	rc = find_chardev(m, "gdb", &name, err);
	if (rc)
		return rc;
	*ours_ret = true;
	if (name) {
		bool idle = !strncmp(name, away, sizeof(away) - 1);
		int fd = idle ? dial(name + sizeof(away) - 1) : -1;
		free(name);
		if (fd >= 0) {
			*fd_ret = fd;
			*ours_ret = false;
			return 0;
		}
		if (!take_over)
			return busy(m, err);
	}
	return turn_on(m, fd_ret, err);
}

/* Names that are not those of registers.h. */
static uint32_t register_id(const char *name)
{
	static const struct {
		const char *theirs, *ours;
	} names[] = {
		{ "eflags", "rflags" }, { "cs", "cs.selector" }, { "ss", "ss.selector" },
		{ "ds", "ds.selector" }, { "es", "es.selector" }, { "fs", "fs.selector" },
		{ "gs", "gs.selector" }, { "fs_base", "fs.base" }, { "gs_base", "gs.base" },
		{ "k_gs_base", "kernel_gs_base" }, { "eax", "rax" },
		{ "ebx", "rbx" }, { "ecx", "rcx" }, { "edx", "rdx" }, { "esi", "rsi" },
		{ "edi", "rdi" }, { "ebp", "rbp" }, { "esp", "rsp" }, { "eip", "rip" },
	};
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(name, names[i].theirs))
			return hvmi_register_id(names[i].ours);
	return hvmi_register_id(name);
}

/* An attribute of the XML element [tag, end). */
static bool attribute(const char *tag, const char *end, const char *name, char *buf, size_t size)
{
	size_t len = strlen(name);
	for (const char *p = tag; p + len + 2 < end; p++) {
		if (memcmp(p, name, len) || p[len] != '=' || p[len + 1] != '"')
			continue;
		const char *from = p + len + 2, *to = memchr(from, '"', (size_t)(end - from));
		if (!to || (size_t)(to - from) >= size)
			return false;
		memcpy(buf, from, (size_t)(to - from));
		buf[to - from] = '\0';
		return true;
	}
	return false;
}

/* Registers of one feature, numbered on from *number. */
static void take_registers(struct stub *s, const char *xml, uint32_t *number, size_t *offset)
{
	for (const char *tag = xml; (tag = strstr(tag, "<reg ")); tag++) {
		const char *end = strchr(tag, '>');
		char name[64], text[32];
		if (!end)
			return;
		if (attribute(tag, end, " regnum", text, sizeof(text)))
			*number = (uint32_t)strtoul(text, NULL, 0);
		uint32_t bits = attribute(tag, end, " bitsize", text, sizeof(text)) ?
					(uint32_t)strtoul(text, NULL, 0) : 0;
		uint32_t id = attribute(tag, end, " name", name, sizeof(name)) ?
				      register_id(name) : 0;
		if (id && id < HVMI_REGISTERS_MAX && (bits == 32 || bits == 64))
			s->registers[id] = (struct stub_register){ .known = true, .number = *number,
								   .size = bits / 8,
								   .offset = *offset };
		*offset += bits / 8;
		++*number;
	}
}

/* QEMU's own files have registers in comments, which are not there. */
static void blank_comments(char *xml)
{
	for (char *from = xml; (from = strstr(from, "<!--"));) {
		char *to = strstr(from, "-->");
		size_t len = to ? (size_t)(to - from) + 3 : strlen(from);
		memset(from, ' ', len);
	}
}

/* A file of the description, allocated. */
static int read_annex(struct stub *s, const char *annex, char **ret, struct hvmi_error *err)
{
	enum { STEP = 0x800, MOST = 1024 * 1024 };
	char *xml = NULL;
	size_t used = 0;
	for (;;) {
		char text[128];
		snprintf(text, sizeof(text), "qXfer:features:read:%.64s:%zx,%x", annex, used, STEP);
		size_t len;
		int rc = rsp_command(&s->rsp, text, &len);
		char kind = rc ? '\0' : s->rsp.packet[0];
		if (!rc && kind != 'm' && kind != 'l')
			rc = -ENOTSUP;
		char *more = rc || used > MOST ? NULL : realloc(xml, used + len + 1);
		if (!more) {
			free(xml);
			return stub_failed(s, rc ? rc : -ENOMEM, "describe its registers", err);
		}
		xml = more;
		memcpy(xml + used, s->rsp.packet + 1, len - 1);
		used += len - 1;
		xml[used] = '\0';
		if (kind == 'l' || len == 1)
			break;
	}
	blank_comments(xml);
	*ret = xml;
	return 0;
}

int stub_read_layout(struct stub *s, struct hvmi_error *err)
{
	char *target, *xml;
	uint32_t number = 0, files = 0;
	size_t offset = 0;
	int rc = read_annex(s, "target.xml", &target, err);
	if (rc)
		return rc;
	for (const char *tag = target; !rc && (tag = strstr(tag, "<xi:include ")) && files < 32;
	     tag++, files++) {
		const char *end = strchr(tag, '>');
		char name[64];
		if (!end || !attribute(tag, end, "href", name, sizeof(name)))
			continue;
		rc = read_annex(s, name, &xml, err);
		if (!rc) {
			take_registers(s, xml, &number, &offset);
			free(xml);
		}
	}
	free(target);
	return rc;
}
