// SPDX-License-Identifier: Apache-2.0
// A C++11 program outside the tree: handles in unique_ptr, errors as exceptions.
#include <hvmi/backend.h>
#include <hvmi/hvmi.h>

#include <cstring>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

namespace {

struct Closer {
	void operator()(hvmi_vm *vm) const { hvmi_close(vm); }
	void operator()(hvmi_space *space) const { hvmi_space_destroy(space); }
};

using Vm = std::unique_ptr<hvmi_vm, Closer>;
using Space = std::unique_ptr<hvmi_space, Closer>;

Vm open(const std::string &target)
{
	hvmi_vm *vm = nullptr;
	hvmi_error err;
	if (hvmi_open(target.c_str(), nullptr, &vm, &err))
		throw std::runtime_error(err.text);
	return Vm(vm);
}

Space open_space(hvmi_vm *vm)
{
	hvmi_space_config config{};
	config.size = sizeof(config);
	config.paging = HVMI_PAGING_X86_4LEVEL;
	config.flags = HVMI_SPACE_NX;
	hvmi_space *space = nullptr;
	hvmi_error err;
	if (hvmi_space_create(vm, &config, &space, &err))
		throw std::runtime_error(err.text);
	return Space(space);
}

void require(bool condition, const char *what)
{
	if (!condition)
		throw std::logic_error(what);
}

}

int main(int argc, char **argv)
{
	try {
		require(argc == 2, "an image is needed");
		bool refused = false;
		try {
			open("/nonexistent");
		} catch (const std::runtime_error &) {
			refused = true;
		}
		require(refused, "opening what does not exist");
		Vm vm = open(argv[1]);
		struct hvmi_vm_info info{};	// the function hides the plain name, as with stat()
		info.size = sizeof(info);
		require(hvmi_vm_get_info(vm.get(), &info) == 0 && info.ram == 4096, "info");
		Space space = open_space(vm.get());
		hvmi_walk walk{};
		walk.size = sizeof(walk);
		require(hvmi_space_walk(space.get(), 1ull << 40, &walk, nullptr) == -EFAULT &&
			walk.fault == HVMI_FAULT_NOT_PRESENT && walk.fault_level == 4, "walk");
		require(hvmi_register_id("cr3") == HVMI_X86_CR3, "registers");
	} catch (const std::exception &e) {
		std::cerr << e.what() << '\n';
		return 1;
	}
	std::cout << "ok\n";
}
