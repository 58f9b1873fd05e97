/*
 * DSDT of the pc board: PCI host bridge with its interrupt links, and the ISA devices behind PIIX3.
 *
 * hw/pc/acpi.c patches the values of HOLE, the first address of PCI memory; COMS, a bit per serial port; HPTP and KBDP, what _STA of the
 * HPET and of the keyboard controller returns. They have to take 32 bits here.
 */
DefinitionBlock ("dsdt.aml", "DSDT", 1, "TRAPEZ", "TRAPEZE", 1)
{
    Name (HOLE, 0xe0000000)
    Name (COMS, 0x12345678)
    Name (HPTP, 0x12345678)
    Name (KBDP, 0x12345678)

    /* Only power off: the value is PIIX4_SLEEP_S5. */
    Name (\_S5, Package () { 0, 0, 0, 0 })

    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A03"))
            Name (_UID, 0)

            Name (CRES, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0xff, 0, 0x100)
                IO (Decode16, 0xcf8, 0xcf8, 1, 8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0, 0xcf7, 0, 0xcf8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0xd00, 0xffff, 0, 0xf300)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
                             0, 0xa0000, 0xbffff, 0, 0x20000)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                             0, 0xe0000000, 0xfebfffff, 0, 0x1ec00000,,, HOL0)
            })
            Method (_CRS, 0, Serialized)
            {
                CreateDWordField (CRES, ^HOL0._MIN, HMIN)
                CreateDWordField (CRES, ^HOL0._LEN, HLEN)
                HMIN = HOLE
                HLEN = 0xfec00000 - HOLE
                Return (CRES)
            }

            /* INTx# pin p of slot s goes to PIRQ (s + p - 1) mod 4. */
            Method (_PRT, 0, Serialized)
            {
                Local0 = Package (128) {}
                Local1 = 0
                While (Local1 < 128)
                {
                    Local2 = Local1 >> 2
                    Local3 = (Local2 + Local1 + 3) & 3
                    Switch (ToInteger (Local3))
                    {
                        Case (0) { Local4 = Package (4) { 0, 0, LNKA, 0 } }
                        Case (1) { Local4 = Package (4) { 0, 0, LNKB, 0 } }
                        Case (2) { Local4 = Package (4) { 0, 0, LNKC, 0 } }
                        Default  { Local4 = Package (4) { 0, 0, LNKD, 0 } }
                    }
                    /* The PM function's INTA# is hard-wired to irq 9. */
                    If (Local1 == 4) { Local4 = Package (4) { 0, 0, LNKS, 0 } }
                    Local4[0] = (Local2 << 16) | 0xffff
                    Local4[1] = Local1 & 3
                    Local0[Local1] = Local4
                    Local1++
                }
                Return (Local0)
            }

            Device (ISA)
            {
                Name (_ADR, 0x00010000)
                OperationRegion (PIRQ, PCI_Config, 0x60, 4)
                Field (PIRQ, ByteAcc, NoLock, Preserve) { PRQA, 8, PRQB, 8, PRQC, 8, PRQD, 8 }

                Device (KBD)
                {
                    Name (_HID, EisaId ("PNP0303"))
                    Method (_STA) { Return (KBDP) }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x60, 0x60, 1, 1)
                        IO (Decode16, 0x64, 0x64, 1, 1)
                        IRQNoFlags () { 1 }
                    })
                }
                Device (MOU)
                {
                    Name (_HID, EisaId ("PNP0F13"))
                    Method (_STA) { Return (KBDP) }
                    Name (_CRS, ResourceTemplate () { IRQNoFlags () { 12 } })
                }
                Device (RTC)
                {
                    Name (_HID, EisaId ("PNP0B00"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x70, 0x70, 1, 8)
                        IRQNoFlags () { 8 }
                    })
                }
                Device (DMAC)
                {
                    Name (_HID, EisaId ("PNP0200"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x00, 0x00, 1, 0x10)
                        IO (Decode16, 0x80, 0x80, 1, 0x10)
                        IO (Decode16, 0xc0, 0xc0, 1, 0x20)
                        DMA (Compatibility, BusMaster, Transfer8_16) { 4 }
                    })
                }
                Device (SPKR)
                {
                    Name (_HID, EisaId ("PNP0800"))
                    Name (_CRS, ResourceTemplate () { IO (Decode16, 0x61, 0x61, 1, 1) })
                }
                Device (COM1)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 1)
                    Method (_STA) { If (COMS & 1) { Return (0xf) } Return (0) }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x3f8, 0x3f8, 0, 8)
                        IRQNoFlags () { 4 }
                    })
                }
                Device (COM2)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 2)
                    Method (_STA) { If (COMS & 2) { Return (0xf) } Return (0) }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x2f8, 0x2f8, 0, 8)
                        IRQNoFlags () { 3 }
                    })
                }
                Device (COM3)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 3)
                    Method (_STA) { If (COMS & 4) { Return (0xf) } Return (0) }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x3e8, 0x3e8, 0, 8)
                        IRQNoFlags () { 4 }
                    })
                }
                Device (COM4)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 4)
                    Method (_STA) { If (COMS & 8) { Return (0xf) } Return (0) }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x2e8, 0x2e8, 0, 8)
                        IRQNoFlags () { 3 }
                    })
                }
            }

            Device (PM)
            {
                Name (_ADR, 0x00010003)
            }
        }

        /* Ports of the PIIX4 that no PCI register tells. */
        Device (MBRD)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x600, 0x600, 0, 0x40)
                IO (Decode16, 0x700, 0x700, 0, 0x10)
                IO (Decode16, 0xafe0, 0xafe0, 0, 4)
                IO (Decode16, 0xb2, 0xb2, 0, 2)
            })
        }

        Device (HPET)
        {
            Name (_HID, EisaId ("PNP0103"))
            Name (_UID, 0)
            Method (_STA) { Return (HPTP) }
            Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadOnly, 0xfed00000, 0x400) })
        }

        /*
         * The interrupt links. A PIRQ register holds the ISA irq, or has bit 7 set while it is routed nowhere.
         */
        Name (PRSP, ResourceTemplate ()
        {
            Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) { 5, 10, 11 }
        })
        Method (PSTA, 1) { If (Arg0 & 0x80) { Return (0x9) } Return (0xb) }
        Name (PBUF, ResourceTemplate () { Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) { 0 } })
        Method (PCRS, 1, Serialized)
        {
            CreateDWordField (PBUF, 5, PNUM)
            If (Arg0 & 0x80) { PNUM = 0 } Else { PNUM = Arg0 }
            Return (PBUF)
        }

        Device (LNKA)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 0)
            Method (_STA) { Return (PSTA (\_SB.PCI0.ISA.PRQA)) }
            Method (_DIS) { \_SB.PCI0.ISA.PRQA |= 0x80 }
            Method (_PRS) { Return (PRSP) }
            Method (_CRS) { Return (PCRS (\_SB.PCI0.ISA.PRQA)) }
            Method (_SRS, 1)
            {
                CreateDWordField (Arg0, 5, NUM)
                \_SB.PCI0.ISA.PRQA = NUM
            }
        }
        Device (LNKB)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 1)
            Method (_STA) { Return (PSTA (\_SB.PCI0.ISA.PRQB)) }
            Method (_DIS) { \_SB.PCI0.ISA.PRQB |= 0x80 }
            Method (_PRS) { Return (PRSP) }
            Method (_CRS) { Return (PCRS (\_SB.PCI0.ISA.PRQB)) }
            Method (_SRS, 1)
            {
                CreateDWordField (Arg0, 5, NUM)
                \_SB.PCI0.ISA.PRQB = NUM
            }
        }
        Device (LNKC)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 2)
            Method (_STA) { Return (PSTA (\_SB.PCI0.ISA.PRQC)) }
            Method (_DIS) { \_SB.PCI0.ISA.PRQC |= 0x80 }
            Method (_PRS) { Return (PRSP) }
            Method (_CRS) { Return (PCRS (\_SB.PCI0.ISA.PRQC)) }
            Method (_SRS, 1)
            {
                CreateDWordField (Arg0, 5, NUM)
                \_SB.PCI0.ISA.PRQC = NUM
            }
        }
        Device (LNKD)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 3)
            Method (_STA) { Return (PSTA (\_SB.PCI0.ISA.PRQD)) }
            Method (_DIS) { \_SB.PCI0.ISA.PRQD |= 0x80 }
            Method (_PRS) { Return (PRSP) }
            Method (_CRS) { Return (PCRS (\_SB.PCI0.ISA.PRQD)) }
            Method (_SRS, 1)
            {
                CreateDWordField (Arg0, 5, NUM)
                \_SB.PCI0.ISA.PRQD = NUM
            }
        }
        /* The SCI: irq 9, not to be moved. */
        Device (LNKS)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 4)
            Name (_PRS, ResourceTemplate () { Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) { 9 } })
            Method (_STA) { Return (0xb) }
            Method (_DIS) { }
            Method (_CRS) { Return (_PRS) }
            Method (_SRS, 1) { }
        }
    }
}
