/* 32-bit instructions in segments with bases and limits: our engines against the host (tests/lib/oracle.h). */
#include "tests/lib/oracle.h"

int main(void)
{
    return oracle_main(ORACLE_SEG32);
}
