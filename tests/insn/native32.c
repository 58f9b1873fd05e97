/* 32-bit code in flat segments (compatibility mode): our engines against the host (tests/lib/oracle.h). */
#include "tests/lib/oracle.h"

int main(void)
{
    return oracle_main(ORACLE_32);
}
