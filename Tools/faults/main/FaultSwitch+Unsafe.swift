/// What is added to each module that has faults: the switch. It has no module of its own, so that
/// the manifest stays as it is.
///
/// Unsafe, in the text it writes, because the environment is read as a C string. Sound because that
/// is copied at once, and nobody changes the environment.
enum FaultSwitch {
  static let swiftFile = """
    import Glibc

    @usableFromInline enum FaultSwitch {
      @usableFromInline static let number = unsafe getenv("SMUDGE_FAULT").flatMap {
        Int(unsafe String(cString: $0))
      }

      @usableFromInline static func isOn(_ fault: Int) -> Bool { number == fault }
    }

    """

  /// Without an include of the system, since it comes before what a file defines for those.
  static let cHeader = """
    #ifndef PLANTED_FAULT_H
    #define PLANTED_FAULT_H
    extern char *getenv(const char *name);
    extern int atoi(const char *text);

    static inline int planted_fault(int number) {
      static int known = -1;
      if (known < 0) {
        const char *text = getenv("SMUDGE_FAULT");
        known = text ? atoi(text) : 0;
      }
      return known == number;
    }
    #endif

    """
}
