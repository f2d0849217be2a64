// Isolated to the main actor as Apple's are.

@_exported import CoreGraphics

@MainActor @preconcurrency
public protocol App {
    associatedtype Body: Scene
    @SceneBuilder var body: Body { get }
    init()
}

extension App {
    public static func main() {}
}

@MainActor @preconcurrency
public protocol Scene {
    associatedtype Body: Scene
    @SceneBuilder var body: Body { get }
}

@MainActor @preconcurrency
public protocol View {
    associatedtype Body: View
    @ViewBuilder var body: Body { get }
}

extension Never: Scene, View {
    public var body: Never { return fatalError() }
}

/// A view without a body.
@MainActor @preconcurrency
public protocol Leaf: View where Body == Never {}

extension Leaf {
    public var body: Never { fatalError() }
}

@resultBuilder
public struct SceneBuilder {
    public static func buildBlock<S: Scene>(_ scene: S) -> S { scene }
}

@resultBuilder
public struct ViewBuilder {
    public static func buildBlock<each V: View>(_ views: repeat each V) -> Group { Group() }
    public static func buildIf<V: View>(_ view: V?) -> V? { view }
}

extension Optional: View, Leaf where Wrapped: View {}

/// What modifiers and builders make: another type in Apple's.
public struct Group: Leaf {
    nonisolated init() {}
}

@propertyWrapper
public struct State<Value> {
    public init(wrappedValue: Value) {}
    public var wrappedValue: Value {
        get { fatalError() }
        nonmutating set {}
    }
    public var projectedValue: Binding<Value> { Binding() }
}

extension State where Value: ExpressibleByNilLiteral {
    public init() {}
}

extension State: Sendable where Value: Sendable {}

public struct Binding<Value> {}

public struct WindowGroup<Content: View>: Scene {
    public nonisolated init(@ViewBuilder content: () -> Content) {}
    public var body: Never { return fatalError() }
}

public struct Text: Leaf {
    public init(_ text: some StringProtocol) {}
    public func monospaced() -> Text { self }
}

public struct Image: Leaf {
    public init(decorative image: CGImage, scale: CGFloat) {}
    public func resizable() -> Image { self }
}

public struct Button: Leaf {
    public init(_ title: String, action: @escaping @MainActor () -> Void) {}
}

public struct TextField: Leaf {
    public init(_ title: String, text: Binding<String>) {}
}

public struct VStack<Content: View>: Leaf {
    public init(@ViewBuilder content: () -> Content) {}
}

public struct ScrollView<Content: View>: Leaf {
    public init(@ViewBuilder content: () -> Content) {}
}

public struct List<Content: View>: Leaf {
    public init<Data: RandomAccessCollection, ID: Hashable>(
        _ data: Data, id: KeyPath<Data.Element, ID>,
        @ViewBuilder rowContent: @escaping (Data.Element) -> Content
    ) {}
}

public enum VerticalEdge {
    case top, bottom
}

extension View {
    public nonisolated func disabled(_ isDisabled: Bool) -> some View { Group() }
    public nonisolated func padding() -> some View { Group() }
    public nonisolated func scaledToFit() -> some View { Group() }
    public nonisolated func safeAreaInset(
        edge: VerticalEdge, @ViewBuilder content: () -> some View
    ) -> some View { Group() }
    public nonisolated func task(
        @_inheritActorContext _ action: sending @escaping @isolated(any) () async -> Void
    ) -> some View { Group() }
    public nonisolated func task(
        id: some Equatable,
        @_inheritActorContext _ action: sending @escaping @isolated(any) () async -> Void
    ) -> some View { Group() }
}

extension URL {
    /// Foundation's on Apple's systems.
    public static var documentsDirectory: URL { fatalError() }
}
