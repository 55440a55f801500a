/* A disk that keeps only what was synced.
 *
 * Loaded before the C library (LD_PRELOAD), it copies each file below $AEGIS_TEST_DISK to the same place below
 * $AEGIS_TEST_SYNCED when it is synced, and never else: what lies there is what a loss of power leaves at worst. Names
 * that are changed or removed are so there at once. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(type, name) ((type)dlsym(RTLD_NEXT, name))
#define PATH_BYTES (PATH_MAX * 2)

/* Where `path` is kept, if it is of the disk. */
static int kept_at(const char *path, char *kept) {
    const char *disk = getenv("AEGIS_TEST_DISK"), *synced = getenv("AEGIS_TEST_SYNCED");
    size_t length = disk ? strlen(disk) : 0;
    if (!disk || !synced || strncmp(path, disk, length) != 0 || path[length] != '/') return 0;
    return snprintf(kept, PATH_BYTES, "%s%s", synced, path + length) < PATH_BYTES;
}

static void keep(int file) {
    char link[64], path[PATH_MAX], kept[PATH_BYTES], part[PATH_BYTES + 32], buffer[65536];
    struct stat facts;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0 || fstat(file, &facts) != 0 || !S_ISREG(facts.st_mode)) return;
    path[length] = 0;
    if (!kept_at(path, kept)) return;
    snprintf(part, sizeof part, "%s", kept);
    *strrchr(part, '/') = 0;
    mkdir(part, 0700);
    snprintf(part, sizeof part, "%s.copy-%d", kept, gettid());
    int from = open(path, O_RDONLY | O_CLOEXEC);
    int to = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t some = -1;
    while (from >= 0 && to >= 0 && (some = read(from, buffer, sizeof buffer)) > 0)
        if (write(to, buffer, (size_t)some) != some) abort();
    if (some != 0) abort();
    close(from);
    close(to);
    /* In one step: a copy that is under way when the process is killed is none. */
    if (REAL(int (*)(const char *, const char *), "rename")(part, kept) != 0) abort();
}

int fsync(int file) {
    keep(file);
    return REAL(int (*)(int), "fsync")(file);
}

int fdatasync(int file) {
    keep(file);
    return REAL(int (*)(int), "fdatasync")(file);
}

int rename(const char *from, const char *to) {
    int (*real)(const char *, const char *) = REAL(int (*)(const char *, const char *), "rename");
    char kept_from[PATH_BYTES], kept_to[PATH_BYTES];
    int result = real(from, to);
    if (result == 0 && kept_at(from, kept_from) && kept_at(to, kept_to)) real(kept_from, kept_to);
    return result;
}

int unlink(const char *path) {
    int (*real)(const char *) = REAL(int (*)(const char *), "unlink");
    char kept[PATH_BYTES];
    int result = real(path);
    if (result == 0 && kept_at(path, kept)) real(kept);
    return result;
}
