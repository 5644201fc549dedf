/* SPDX-License-Identifier: Apache-2.0 */
/*
 * windows_dump TARGET: prints what no tool does: registers, tokens, objects, descriptors, win32k's
 * services.
 */
#include <inttypes.h>
#include <stdio.h>

#include <hvmi/hvmi.h>

static struct hvmi_os *os;
static struct hvmi_error err;

static void print_end(const char *what, int rc)
{
	printf("end\t%s\t%s\n", what, rc ? hvmi_error_name(rc) : "");
}

static void print_tokens(void)
{
	struct hvmi_task task = { .size = sizeof(task) };
	struct hvmi_token token = { .size = sizeof(token) };
	struct hvmi_task_iter *iter;
	int rc = hvmi_task_iter_create(os, 0, &iter, &err);
	if (!rc) {
		while ((rc = hvmi_task_next(iter, &task, &err)) == 1) {
			int token_rc = hvmi_token_read(os, &task, &token, &err);
			if (token_rc)
				printf("token\t%d\t%s\n", (int)task.pid, hvmi_error_name(token_rc));
			else
				printf("token\t%d\t%s\t0x%x\t%u\t0x%" PRIx64 "\t0x%" PRIx64 "\n",
				       (int)task.pid, token.user, token.integrity, token.session,
				       token.present, token.enabled);
		}
		hvmi_task_iter_destroy(iter);
	}
	print_end("token", rc);
}

static void print_directory(const char *path)
{
	struct hvmi_object object = { .size = sizeof(object) };
	struct hvmi_object_iter *iter;
	int rc = hvmi_object_iter_create(os, path, &iter, &err);
	if (!rc) {
		while ((rc = hvmi_object_next(iter, &object, &err)) == 1)
			printf("object\t%s\t%s\t%s\t0x%" PRIx64 "\n", path, object.name, object.type,
			       object.object);
		hvmi_object_iter_destroy(iter);
	}
	print_end(path, rc);
}

static void print_descriptors(uint32_t table, const char *name)
{
	struct hvmi_descriptor d = { .size = sizeof(d) };
	int rc;
	for (uint32_t i = 0; (rc = hvmi_descriptor_read(os, 0, table, i, &d, &err)) == 0; i++)
		printf("%s\t%u\t0x%" PRIx64 "\t0x%x\t0x%x\t%u\t%u\t%u\t%u\n", name, i, d.base, d.limit,
		       d.selector, d.type, d.dpl, d.present, d.ist);
	print_end(name, rc);
}

static void print_services(void)
{
	struct hvmi_service service = { .size = sizeof(service) };
	int rc;
	for (uint32_t i = 0; (rc = hvmi_service_read(os, 1, i, &service, &err)) == 0; i++)
		printf("service\t0x%x\t0x%" PRIx64 "\t%u\n", service.number, service.function,
		       service.arguments);
	print_end("service", rc);
}

/* Who is in the kernel's image. */
static void print_occupants(void)
{
	enum { MOST = 4096 };
	struct hvmi_os_info info = { .size = sizeof(info) };
	static struct hvmi_occupant who[MOST];
	hvmi_os_get_info(os, &info);
	const struct hvmi_code code = { info.kernel_gva, info.kernel_len };
	int count = hvmi_quiet_check(os, &code, 1, who, MOST, &err);
	for (int i = 0; i < count && i < MOST; i++)
		printf("occupant\t%u\t%d\t%d\t0x%" PRIx64 "\t0x%" PRIx64 "\n", who[i].kind,
		       (int)who[i].tgid, (int)who[i].pid, who[i].gva, who[i].at);
	print_end("occupant", count < 0 ? count : 0);
}

/* What the machine tells of each vCPU. */
static void print_registers(struct hvmi_vm *vm)
{
	struct hvmi_vm_info info = { .size = sizeof(info) };
	uint64_t value;
	hvmi_vm_get_info(vm, &info);
	for (uint32_t vcpu = 0; vcpu < info.vcpus; vcpu++)
		for (uint32_t id = 1; hvmi_register_name(id); id++)
			if (hvmi_vm_register(vm, vcpu, id, &value) == 0)
				printf("register\t%u\t%s\t0x%" PRIx64 "\n", vcpu,
				       hvmi_register_name(id), value);
}

int main(int argc, char **argv)
{
	struct hvmi_vm *vm;
	if (argc != 2 || hvmi_open(argv[1], NULL, &vm, &err) || hvmi_os_attach(vm, NULL, &os, &err))
		return fprintf(stderr, "%s\n", argc == 2 ? err.text : "usage: windows_dump TARGET"), 1;
	print_registers(vm);
	print_tokens();
	print_directory("\\");
	print_directory("\\Device");
	print_directory("\\objecttypes");
	print_directory("\\None");
	print_descriptors(HVMI_TABLE_IDT, "gate");
	print_descriptors(HVMI_TABLE_GDT, "segment");
	print_services();
	print_occupants();
	hvmi_os_detach(os);
	hvmi_close(vm);
	return 0;
}
