/*
 * Runs in the guest: probes of a hash table of 256 MiB, in pages that no TLB holds together. Each probe goes where the hash of its key
 * says and on from there until the slot is its own or free, as open addressing does.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define SLOTS (1u << 24) /* of 16 bytes */

struct slot {
    uint64_t key, count;
};

static uint64_t next_key(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 40 | 1u << 24; /* 16 million keys, none of them 0 */
}

static struct slot *probe(struct slot *table, uint64_t key)
{
    uint64_t at = key * 0x9e3779b97f4a7c15u >> 40;
    while (table[at].key && table[at].key != key)
        at = (at + 1) & (SLOTS - 1);
    return &table[at];
}

/* fill N: counts N keys; find N: adds up the counts of N others. */
int main(int argc, char **argv)
{
    struct slot *table = mmap(NULL, SLOTS * sizeof *table, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t seed = 1, sum = 0;
    if (table == MAP_FAILED || argc != 3)
        return 1;
    for (uint64_t at = 0; at < SLOTS; at += 256)
        table[at].count = 0;
    puts("BEGIN probe-insert");
    fflush(stdout);
    for (long n = atol(argv[1]); n > 0; n--) {
        uint64_t key = next_key(&seed);
        struct slot *s = probe(table, key);
        s->key = key;
        s->count++;
    }
    puts("END probe-insert");
    puts("BEGIN probe-find");
    fflush(stdout);
    seed = 77;
    for (long n = atol(argv[2]); n > 0; n--)
        sum += probe(table, next_key(&seed))->count;
    printf("END probe-find\nRESULT probe %llu\n", (unsigned long long)sum);
    return 0;
}
