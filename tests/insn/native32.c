/* Instructions of 32-bit code in compatibility mode: the interpreter against the host's processor (tests/lib/oracle.h). */
#include "tests/lib/oracle.h"

int main(void)
{
    return oracle_main(ORACLE_32);
}
