/* Instructions of 64-bit mode: our engines against the host's processor (tests/lib/oracle.h). */
#include "tests/lib/oracle.h"

int main(void)
{
    return oracle_main(ORACLE_64);
}
