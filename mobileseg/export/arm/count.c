/* A plugin of QEMU: prints how many guest instructions have run, each time the guest marks.
 *
 * The mark is the system call getsid, which nothing in Python or the runtimes makes of itself.
 * Plain declarations in the place of qemu-plugin.h: no package ships that header beside QEMU 7.2.
 * Source: include/qemu/qemu-plugin.h of QEMU 7.2, plugin API version 1.
 */
typedef unsigned long long u64;
struct qemu_plugin_tb;

typedef void (*translated_t)(u64 id, struct qemu_plugin_tb *block);
typedef void (*called_t)(u64 id, unsigned cpu, long long number, u64, u64, u64, u64, u64, u64, u64,
                         u64);

void qemu_plugin_register_vcpu_tb_trans_cb(u64 id, translated_t);
void qemu_plugin_register_vcpu_syscall_cb(u64 id, called_t);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, int operation,
                                              void *target, u64 amount);
unsigned long qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
void qemu_plugin_outs(const char *text);

int qemu_plugin_version = 1;

enum { ADD_U64 = 0, GETSID = 156 };

static u64 count;

static void translated(u64 id, struct qemu_plugin_tb *block)
{
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &count, qemu_plugin_tb_n_insns(block));
}

static void called(u64 id, unsigned cpu, long long number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f,
                   u64 g, u64 h)
{
    char text[24];
    char *at = text + sizeof text - 1;
    u64 rest = count;

    if (number != GETSID)
        return;
    *at = 0;
    *--at = '\n';
    do {
        *--at = '0' + rest % 10;
        rest /= 10;
    } while (rest);
    qemu_plugin_outs(at);
}

int qemu_plugin_install(u64 id, const void *info, int argc, char **argv)
{
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
